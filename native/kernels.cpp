// Which instruction sets this build contains and this processor runs, best first.
#include "kernels.h"

#include <cstdlib>
#include <cstring>
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#ifdef INTAGLIO_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace intaglio {

extern const Kernels kScalar;
#ifdef INTAGLIO_X86
extern const Kernels kAvx2, kAvxVnni, kAvx512Vnni;
#endif
#ifdef INTAGLIO_AMX
extern const Kernels kAmx;
#endif
#ifdef INTAGLIO_NEON
extern const Kernels kNeon;
#endif

namespace {

#ifdef INTAGLIO_X86
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

// AVX-VNNI is bit 4 of EAX of leaf 7.1; GCC before 13 does not know its name.
bool has_avxvnni() {
  unsigned eax = 7, ebx = 0, ecx = 1, edx = 0;
  __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return has_avx2() && (eax >> 4 & 1);
}

bool has_avx512vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

#ifdef INTAGLIO_AMX
// Linux lets a process use tiles once it has asked, and then all its threads.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM and the state's number
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// AMX-TILE and AMX-INT8 are bits 24 and 25 of EDX of leaf 7.
bool has_amx() {
  if (!has_avx512vnni()) return false;
  unsigned eax = 7, ebx = 0, ecx = 0, edx = 0;
  __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  static const bool granted = (edx >> 24 & 3) == 3 && may_use_tiles();
  return granted;
}
#endif

#ifdef INTAGLIO_NEON
bool has_dotprod() {
#ifdef __linux__
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
  return true;  // every 64-bit Apple processor has it
#endif
}
#endif

}  // namespace

int32_t supported_kernels(const Kernels** list, int32_t capacity) {
  int32_t n = 0;
  const auto offer = [&](bool runs, const Kernels& k) {
    if (runs && n < capacity) list[n++] = &k;
  };
#ifdef INTAGLIO_AMX
  offer(has_amx(), kAmx);
#endif
#ifdef INTAGLIO_X86
  offer(has_avx512vnni(), kAvx512Vnni);
  offer(has_avxvnni(), kAvxVnni);
  offer(has_avx2(), kAvx2);
#endif
#ifdef INTAGLIO_NEON
  offer(has_dotprod(), kNeon);
#endif
  offer(true, kScalar);
  return n;
}

const Kernels* find_kernels(const char* name) {
  const Kernels* list[8];
  const int32_t n = supported_kernels(list, 8);
  if (!name || !*name) name = std::getenv("INTAGLIO_ISA");
  if (!name || !*name) return list[0];
  for (int32_t i = 0; i < n; ++i)
    if (!std::strcmp(list[i]->name, name)) return list[i];
  return nullptr;
}

}  // namespace intaglio
