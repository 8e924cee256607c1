// A small random transformer whose matrices are of every kind, and executors that run it.
#pragma once
#include <memory>
#include <random>
#include <vector>

#include "executor.h"
#include "packed.h"

namespace intaglio::stress {

class Random {
 public:
  explicit Random(uint64_t seed) : bits_(seed) {}
  int integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(bits_); }
  float normal() { return std::normal_distribution<float>()(bits_); }
  bool chance(double p) { return std::bernoulli_distribution(p)(bits_); }

 private:
  std::mt19937_64 bits_;
};

// A random matrix in the neutral layout, of about unit gain.
struct Weights {
  Weights(Random& random, int kind, int rows, int cols);
  Weights(Random& random, const Weights& like);  // of the same kind, bits and groups, so that both can be stacked

  std::vector<uint8_t> codes, zero, steps;
  std::vector<float> scale;
  Source source{};

 private:
  void fill(Random& random);
};

struct Shape {
  int hidden, inner, heads, kv_heads, head_dim, vocab, kv_bits, window;
  float softcap;
};

constexpr int kLayers = 2;

struct Layer {
  std::unique_ptr<Weights> q, k, v, o, gate, up, down;  // gate and up are of one kind, and packed as one matrix
  std::vector<float> attention_gain, mlp_gain;
};

struct Model {
  // Matrices of all kinds, or with `integers` false only of those that read floats.
  Model(Random& random, int kv_bits, bool integers);

  bool integers;
  Shape shape;
  std::unique_ptr<Weights> embedding, head;
  std::vector<Layer> layers;
  std::vector<float> head_gain;
};

// A model's matrices for one instruction set, read by any number of executors.
struct PackedModel {
  PackedModel(const Model& model, const Kernels* kernels);

  struct Site {
    PackedMatrix q, k, v, o, gate_up, down;
  };
  const Model* model;
  const Kernels* kernels;
  PackedMatrix embedding, head;
  std::vector<Site> layers;
};

struct Memory {
  int threads, max_tokens, max_sequences, max_context, pages;
};

std::unique_ptr<Executor> open(const PackedModel& model, const Memory& memory);

}  // namespace intaglio::stress
