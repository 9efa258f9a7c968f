/* The question which instruction sets this processor, and its operating system, can run. */
#include "core.h"

#if defined(__x86_64__)

static void cpuid(uint32_t leaf, uint32_t sub, uint32_t out[4]) {
    __asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(sub));
}

static uint64_t saved_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static int bit(uint32_t word, int n) { return word >> n & 1; }

/* x86-64-v3: AVX2, FMA, BMI1, BMI2, F16C, LZCNT, MOVBE */
static int has_v3(void) {
    uint32_t a[4], b[4], c[4];
    cpuid(0, 0, a);
    if (a[0] < 7) return 0;
    cpuid(1, 0, a);
    cpuid(7, 0, b);
    cpuid(0x80000001u, 0, c);
    if (!bit(a[2], 27) || (saved_state() & 6) != 6) return 0; /* OSXSAVE; SSE and AVX registers */
    return bit(a[2], 28) && bit(a[2], 12) && bit(a[2], 22) && bit(a[2], 29) && bit(b[1], 5) && bit(b[1], 3) &&
           bit(b[1], 8) && bit(c[2], 5);
}

/* x86-64-v4 (AVX-512 F, CD, BW, DQ, VL) and VNNI */
static int has_v4_vnni(void) {
    uint32_t b[4];
    if (!has_v3() || (saved_state() & 0xe6) != 0xe6) return 0;
    cpuid(7, 0, b);
    return bit(b[1], 16) && bit(b[1], 28) && bit(b[1], 30) && bit(b[1], 17) && bit(b[1], 31) && bit(b[2], 11);
}

API int archiver_cpu_has(const char *name) {
    if (!strcmp(name, "avx512")) return has_v4_vnni();
    if (!strcmp(name, "avx2")) return has_v3();
    return !strcmp(name, "portable");
}

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

#define HWCAP_DOTPROD (1ul << 20) /* Linux, asm/hwcap.h: ASIMDDP */

API int archiver_cpu_has(const char *name) {
    if (!strcmp(name, "dotprod")) return (getauxval(AT_HWCAP) & HWCAP_DOTPROD) != 0;
    return !strcmp(name, "portable");
}

#else

API int archiver_cpu_has(const char *name) { return !strcmp(name, "portable"); }

#endif
