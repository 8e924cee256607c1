// Pages and attention, for tests: the executor keeps its own pages.
#include <cstring>
#include <memory>

#include "arrays.h"

namespace intaglio {
namespace {

// K and V of one sequence in pages of one layer, for tests of writing, reading and attending.
struct Pages {
  const Kernels* k;
  PageLayout layout;
  int32_t count;
  std::vector<std::unique_ptr<void, AlignedDelete>> pages;
  std::vector<void*> keys, values;

  Pages(const Pages&) = delete;

  Pages(int heads, int dim, int bits, int n, const std::string& isa) : k(kernels(isa)), layout{heads, dim, bits}, count(n) {
    require(heads > 0 && dim > 0 && dim <= 4096 && n > 0, "pages need heads, channels (at most 4096) and a count");
    require(bits == 32 || bits == 16 || bits == 8 || bits == 4, "pages have 32, 16, 8 or 4 bits, got " + std::to_string(bits));
    for (int i = 0; i < 2 * n; ++i) {
      pages.push_back(aligned_bytes(k->page_bytes(&layout)));
      std::memset(pages.back().get(), 0xff, k->page_bytes(&layout));  // a kernel must not count on zeros
      (i < n ? keys : values).push_back(pages.back().get());
    }
  }

  void check_token(int token) const {
    require(token >= 0 && token < count * kPage, "token " + std::to_string(token) + " lies beyond the pages");
  }

  void write(int token, Floats2 key, Floats2 value) {
    check_token(token);
    check_table(std::optional(key), layout.kv_heads, layout.head_dim, "key");
    check_table(std::optional(value), layout.kv_heads, layout.head_dim, "value");
    for (int32_t h = 0; h < layout.kv_heads; ++h) {
      const int64_t at = int64_t(h) * layout.head_dim;
      k->page_write(&layout, keys[size_t(token / kPage)], h, token % kPage, key.data() + at, 0);
      k->page_write(&layout, values[size_t(token / kPage)], h, token % kPage, value.data() + at, 1);
    }
  }

  nb::tuple read(int token) const {
    check_token(token);
    const size_t heads = size_t(layout.kv_heads), dim = size_t(layout.head_dim);
    std::vector<float> key(heads * dim), value(heads * dim);
    for (int32_t h = 0; h < layout.kv_heads; ++h) {
      k->page_read(&layout, keys[size_t(token / kPage)], h, token % kPage, &key[size_t(h) * dim], 0);
      k->page_read(&layout, values[size_t(token / kPage)], h, token % kPage, &value[size_t(h) * dim], 1);
    }
    return nb::make_tuple(numpy(std::move(key), {heads, dim}), numpy(std::move(value), {heads, dim}));
  }

  // q (queries, rep, dim) at `position` on; out of the same shape, and (queries, rep, 2) of maxima and sums.
  nb::tuple attend(nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu> q, int kv_head, int position,
                   float scale, int window, float softcap, int key_begin, int key_end, bool unfinished) const {
    const size_t queries = q.shape(0), rep = q.shape(1), dim = q.shape(2), width = rep * dim;
    require(dim == size_t(layout.head_dim) && kv_head >= 0 && kv_head < layout.kv_heads && window >= 0,
            "q, kv_head or window does not fit the pages");
    const int64_t end = int64_t(position) + int64_t(queries);
    require(position >= 0 && end <= int64_t(count) * kPage, "the queries lie beyond the pages");
    require(key_begin >= 0 && key_end <= end, "keys must lie in 0..position + queries");
    std::vector<float> out(queries * width), partial(queries * rep * 2);
    const auto scratch = aligned_bytes(k->attend_scratch(&layout, dim32(queries), dim32(rep)));
    const Attend a{&layout, kv_head, dim32(rep), dim32(queries), position, window, scale, softcap, q.data(),
                   int64_t(width), keys.data(), values.data(), key_begin, key_end < 0 ? int32_t(end) : key_end,
                   out.data(), int64_t(width), unfinished ? partial.data() : nullptr, scratch.get()};
    k->attend(&a);
    return nb::make_tuple(numpy(std::move(out), {queries, rep, dim}), numpy(std::move(partial), {queries, rep, 2}));
  }

  // Processor seconds of each of `repeats` attentions of all KV heads, the queries at the end of the pages.
  std::vector<double> seconds(nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu> q, int repeats) const {
    const size_t queries = q.shape(0), rep = q.shape(1), dim = q.shape(2), width = rep * dim;
    require(dim == size_t(layout.head_dim) && queries <= size_t(count * kPage), "q does not fit the pages");
    std::vector<float> out(queries * width);
    const auto scratch = aligned_bytes(k->attend_scratch(&layout, dim32(queries), dim32(rep)));
    Attend a{&layout, 0, dim32(rep), dim32(queries), count * kPage - int32_t(queries), 0, 1, 0, q.data(), int64_t(width),
             keys.data(), values.data(), 0, count * kPage, out.data(), int64_t(width), nullptr, scratch.get()};
    std::vector<double> times;
    nb::gil_scoped_release release;
    for (int i = 0; i < repeats; ++i) {
      const double start = processor_seconds();
      for (a.kv_head = 0; a.kv_head < layout.kv_heads; ++a.kv_head) k->attend(&a);
      times.push_back(processor_seconds() - start);
    }
    return times;
  }
};

}  // namespace

void bind_pages(nb::module_& m) {
  nb::class_<Pages>(m, "Pages", "Keys and values of one sequence, as one layer's pages")
      .def(nb::init<int, int, int, int, const std::string&>(), nb::arg("kv_heads"), nb::arg("head_dim"), nb::arg("bits"),
           nb::arg("count"), nb::arg("isa") = "")
      .def("write", &Pages::write, nb::arg("token"), nb::arg("key"), nb::arg("value"))
      .def("read", &Pages::read, nb::arg("token"))
      .def("attend", &Pages::attend, nb::arg("q"), nb::arg("kv_head"), nb::arg("position"), nb::arg("scale"),
           nb::arg("window") = 0, nb::arg("softcap") = 0.0f, nb::arg("key_begin") = 0, nb::arg("key_end") = -1,
           nb::arg("unfinished") = false)
      .def("seconds", &Pages::seconds, nb::arg("q"), nb::arg("repeats"), "Times of attending alone, for benchmarks")
      .def_prop_ro("page_bytes", [](const Pages& p) { return p.k->page_bytes(&p.layout); });
}

}  // namespace intaglio
