/* The AVX-512 instructions that the core uses, one by one in plain C, as the processor's manual says what they do. */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float e_ps __attribute__((vector_size(64), aligned(1), may_alias));
typedef int32_t e_epi32 __attribute__((vector_size(64), aligned(1), may_alias));
typedef int16_t e_epi16 __attribute__((vector_size(64), aligned(1), may_alias));
#define __m512 e_ps
#define __m512i e_epi32

static inline e_ps e_min(e_ps a, e_ps b) {
    for (int i = 0; i < 16; i++) a[i] = a[i] < b[i] ? a[i] : b[i];
    return a;
}
static inline e_ps e_max(e_ps a, e_ps b) {
    for (int i = 0; i < 16; i++) a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}
static inline e_ps e_fmadd(e_ps a, e_ps b, e_ps c) {
    for (int i = 0; i < 16; i++) a[i] = fmaf(a[i], b[i], c[i]);
    return a;
}
static inline e_epi32 e_round(e_ps a) {
    e_epi32 out;
    for (int i = 0; i < 16; i++) out[i] = (int32_t)nearbyintf(a[i]);
    return out;
}
static inline e_epi32 e_dpbusd(e_epi32 sum, e_epi32 a, e_epi32 b) {
    uint8_t x[64];
    int8_t y[64];
    memcpy(x, &a, 64), memcpy(y, &b, 64);
    for (int i = 0; i < 64; i++) sum[i / 4] += (int32_t)x[i] * y[i];
    return sum;
}
static inline e_epi32 e_dpwssd(e_epi32 sum, e_epi32 a, e_epi32 b) {
    int16_t x[32], y[32];
    memcpy(x, &a, 64), memcpy(y, &b, 64);
    for (int i = 0; i < 32; i++) sum[i / 2] += (int32_t)x[i] * y[i];
    return sum;
}
static inline __m128i e_to_bytes(e_epi32 a) {
    uint8_t out[16];
    for (int i = 0; i < 16; i++) out[i] = (uint8_t)a[i];
    return _mm_loadu_si128((const __m128i *)out);
}
static inline __m128i *e_to_halves(e_epi32 a, __m128i out[2]) {
    int16_t halves[16];
    for (int i = 0; i < 16; i++) halves[i] = (int16_t)a[i];
    memcpy(out, halves, 32);
    return out;
}
static inline e_epi32 e_unpack(e_epi32 a, e_epi32 b, int high) {
    int16_t x[32], y[32], out[32];
    memcpy(x, &a, 64), memcpy(y, &b, 64);
    for (int lane = 0; lane < 4; lane++)
        for (int i = 0; i < 4; i++) {
            out[8 * lane + 2 * i] = x[8 * lane + 4 * high + i];
            out[8 * lane + 2 * i + 1] = y[8 * lane + 4 * high + i];
        }
    e_epi32 all;
    memcpy(&all, out, 64);
    return all;
}
static inline e_epi32 e_load(const void *p) {
    e_epi32 x;
    memcpy(&x, p, 64);
    return x;
}
static inline void e_store_halves(void *p, e_epi32 a) {
    __m128i both[2];
    memcpy(p, e_to_halves(a, both), 32);
}

#define _mm512_min_ps e_min
#define _mm512_max_ps e_max
#define _mm512_fmadd_ps e_fmadd
#define _mm512_cvtps_epi32 e_round
#define _mm512_dpbusd_epi32 e_dpbusd
#define _mm512_dpwssd_epi32 e_dpwssd
#define _mm512_cvtepi32_epi8 e_to_bytes
#define _mm512_unpacklo_epi16(a, b) e_unpack(a, b, 0)
#define _mm512_unpackhi_epi16(a, b) e_unpack(a, b, 1)
#define _mm512_loadu_si512 e_load
#define _mm512_cvtepi32_epi16(a) (a)
#define _mm256_storeu_si256(p, a) e_store_halves(p, a)
