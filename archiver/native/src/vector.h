/* Vectors of the width that this instruction set has, and the few steps that differ between sets.
 *
 * All numbers of the network are whole multiples of a power of two that float32 holds exactly (FORMAT.md, "Exact
 * arithmetic"), so the order of sums is free; what rounds is written one operation at a time. */
#ifndef ARCHIVER_VECTOR_H
#define ARCHIVER_VECTOR_H

#include "core.h"

#if defined(EMULATED_AVX512) /* by tests, on machines that lack it */
#define WIDTH 16
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define WIDTH 16
#elif defined(__AVX2__)
#define WIDTH 8
#else
#define WIDTH 4
#endif

#if defined(EMULATED_AVX512)
#include EMULATED_AVX512
#elif defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

typedef float vf __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int16_t vh __attribute__((vector_size(2 * WIDTH), aligned(2), may_alias)); /* WIDTH of 16 bits */
typedef uint8_t vb __attribute__((vector_size(WIDTH), aligned(1), may_alias));

/* eight components of a mixture, on every set */
typedef float f8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t i8x __attribute__((vector_size(32), aligned(4), may_alias));

#define MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to whole numbers, ties to even, within +-2^22 */
#define MAGIC_BITS 0x4b400000

INLINE vf vf_all(float x) { return x - (vf){0}; }
INLINE vf vf_load(const float *p) { return *(const vf *)p; }
INLINE void vf_store(float *p, vf x) { *(vf *)p = x; }

#if WIDTH == 16
INLINE vf vf_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE vf vf_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
#elif WIDTH == 8
INLINE vf vf_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE vf vf_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
#elif defined(__SSE2__)
INLINE vf vf_min(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
INLINE vf vf_max(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
#elif defined(__ARM_NEON)
INLINE vf vf_min(vf a, vf b) { return (vf)vminq_f32((float32x4_t)a, (float32x4_t)b); }
INLINE vf vf_max(vf a, vf b) { return (vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
#else
INLINE vf vf_choose(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
INLINE vf vf_min(vf a, vf b) { return vf_choose(a < b, a, b); }
INLINE vf vf_max(vf a, vf b) { return vf_choose(a > b, a, b); }
#endif

/* Return a * b + c, for sums that are exact in any order. */
INLINE vf vf_exact(vf a, vf b, vf c) {
#if WIDTH == 16
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif WIDTH == 8
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* Round to whole numbers, ties to even, as is the rule unless a program sets another; |x| < 2^22. */
INLINE vi vf_whole(vf x) {
#if WIDTH == 16
    return (vi)_mm512_cvtps_epi32((__m512)x);
#elif WIDTH == 8
    return (vi)_mm256_cvtps_epi32((__m256)x);
#elif defined(__SSE2__)
    return (vi)_mm_cvtps_epi32((__m128)x);
#else
    return (vi)(x + MAGIC) - MAGIC_BITS;
#endif
}

INLINE vf vf_limit(vf x, float limit) { return vf_max(vf_min(x, vf_all(limit)), vf_all(-limit)); }

/* Round to whole numbers within +-limit; limits are whole, so the order of the two does not matter. */
INLINE vf vf_snap(vf x, float limit) { return (vf_limit(x, limit) + MAGIC) - MAGIC; }

INLINE vf vf_of(vi x) { return __builtin_convertvector(x, vf); }

INLINE f8 f8_all(float x) { return x - (f8){0}; }
#if defined(__AVX2__)
INLINE f8 f8_min(f8 a, f8 b) { return (f8)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE f8 f8_max(f8 a, f8 b) { return (f8)_mm256_max_ps((__m256)a, (__m256)b); }
#else
INLINE f8 f8_choose(i8x mask, f8 a, f8 b) { return (f8)((mask & (i8x)a) | (~mask & (i8x)b)); }
INLINE f8 f8_min(f8 a, f8 b) { return f8_choose(a < b, a, b); }
INLINE f8 f8_max(f8 a, f8 b) { return f8_choose(a > b, a, b); }
#endif
INLINE f8 f8_limit(f8 x, float limit) { return f8_max(f8_min(x, f8_all(limit)), f8_all(-limit)); }
INLINE f8 f8_snap(f8 x, float limit) { return (f8_limit(x, limit) + MAGIC) - MAGIC; }
INLINE i8x f8_whole(f8 x) { return (i8x)(x + MAGIC) - MAGIC_BITS; } /* of |x| < 2^22, rounded to even */

/* One by one: the instructions that gather are no faster where they are good, and much slower where they are not. */
INLINE f8 f8_lookup(const float *table, i8x at) {
    int32_t places[8];
    float found[8];
    memcpy(places, &at, sizeof places);
    for (int k = 0; k < 8; k++) found[k] = table[places[k]];
    return *(const f8 *)found;
}

/* Keep `vectors` vectors of whole numbers of 16 bits. */
INLINE void halves_store(int16_t *p, const vi *whole, int vectors) {
#if WIDTH == 16
    for (int v = 0; v < vectors; v++)
        _mm256_storeu_si256((__m256i *)(p + v * WIDTH), _mm512_cvtepi32_epi16((__m512i)whole[v]));
#elif WIDTH == 8
    int v = 0;
    for (; v + 2 <= vectors; v += 2) {
        const __m256i both = _mm256_packs_epi32((__m256i)whole[v], (__m256i)whole[v + 1]);
        _mm256_storeu_si256((__m256i *)(p + v * WIDTH), _mm256_permute4x64_epi64(both, 0xd8));
    }
    if (v < vectors) {
        const __m256i one = (__m256i)whole[v];
        const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(one), _mm256_extracti128_si256(one, 1));
        _mm_storeu_si128((__m128i *)(p + v * WIDTH), halves);
    }
#elif defined(__SSE2__)
    int v = 0;
    for (; v + 2 <= vectors; v += 2)
        _mm_storeu_si128((__m128i *)(p + v * WIDTH), _mm_packs_epi32((__m128i)whole[v], (__m128i)whole[v + 1]));
    if (v < vectors)
        _mm_storel_epi64((__m128i *)(p + v * WIDTH), _mm_packs_epi32((__m128i)whole[v], (__m128i)whole[v]));
#else
    for (int v = 0; v < vectors; v++)
        for (int i = 0; i < WIDTH; i++) p[v * WIDTH + i] = (int16_t)whole[v][i];
#endif
}

/* --- levels: what products multiply ----------------------------------------------------------
 *
 * A level is a whole number in [-128, 127].  GROUP neighbouring ones are multiplied with as many weights and summed
 * by one instruction: four bytes where there is one for that, else two 16-bit numbers.  AVX-512's wants levels without
 * a sign: they are kept 128 higher there, and every sum starts 128 times the sum of its weights lower. */

#if WIDTH == 16
typedef uint8_t level_t;
#define GROUP 4
#define LEVEL_ZERO 128
#elif defined(__ARM_FEATURE_DOTPROD)
typedef int8_t level_t;
#define GROUP 4
#define LEVEL_ZERO 0
#else
typedef int16_t level_t;
#define GROUP 2
#define LEVEL_ZERO 0
#endif

#if GROUP == 4
typedef int8_t weight_t;
#else
typedef int16_t weight_t;
#endif

INLINE level_t level_of(int x) { return (level_t)(x + LEVEL_ZERO); }

/* GROUP levels of one pixel in each 32 bits of a vector. */
INLINE vi levels_all(const level_t *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return x - (vi){0};
}

/* Add products of GROUP levels and weights in each 32 bits. */
INLINE vi dot(vi sum, vi levels, vi weights) {
#if WIDTH == 16
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)levels, (__m512i)weights);
#elif WIDTH == 8
    return sum + (vi)_mm256_madd_epi16((__m256i)levels, (__m256i)weights);
#elif defined(__SSE2__)
    return sum + (vi)_mm_madd_epi16((__m128i)levels, (__m128i)weights);
#elif defined(__ARM_FEATURE_DOTPROD)
    return (vi)vdotq_s32((int32x4_t)sum, (int8x16_t)weights, (int8x16_t)levels);
#else
    typedef int16_t pairs __attribute__((vector_size(16), may_alias));
    pairs a = (pairs)levels, b = (pairs)weights;
    for (int i = 0; i < 4; i++) sum[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    return sum;
#endif
}

/* Keep `vectors` vectors, one or more, of whole numbers within [-128, 127] as levels. */
INLINE void levels_store(level_t *p, const vi *whole, int vectors) {
#if WIDTH == 16
    for (int v = 0; v < vectors; v++)
        _mm_storeu_si128((__m128i *)(p + v * WIDTH), _mm512_cvtepi32_epi8((__m512i)(whole[v] + LEVEL_ZERO)));
#elif GROUP == 2
    halves_store(p, whole, vectors);
#else
    for (int v = 0; v < vectors; v++)
        for (int i = 0; i < WIDTH; i++) p[v * WIDTH + i] = (level_t)(whole[v][i] + LEVEL_ZERO);
#endif
}

/* --- depth-wise kernels: pairs of taps ---------------------------------------------------------
 *
 * Two taps' numbers of the same channels are interleaved, multiplied and summed in pairs.  Interleaving works within
 * 128 bits, so channels are kept in the order (`kept_channel`) in which sums then come out as 0, 1, 2, ... */

#define PAIR_CHANNELS (2 * WIDTH) /* of one step: sums fill two vectors */

/* Return the channel that is kept at place p of each PAIR_CHANNELS. */
INLINE int kept_channel(int p) {
#if defined(__SSE2__)
    int lane = p / 8, half = p / 4 % 2; /* place 8 i + j of the first half feeds sum 4 i + j */
    return half * WIDTH + lane * 4 + p % 4;
#else
    return p;
#endif
}

/* Add one pair of taps: weights are (2, WIDTH, 2) of 16 bits: first and second vector, channel, tap. */
INLINE void pair_add(vi sums[2], const int16_t *a, const int16_t *b, const int16_t *weights) {
#if WIDTH == 16
    __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b);
    sums[0] = (vi)_mm512_dpwssd_epi32((__m512i)sums[0], _mm512_unpacklo_epi16(x, y), _mm512_loadu_si512(weights));
    sums[1] = (vi)_mm512_dpwssd_epi32((__m512i)sums[1], _mm512_unpackhi_epi16(x, y), _mm512_loadu_si512(weights + 32));
#elif WIDTH == 8
    __m256i x = _mm256_loadu_si256((const __m256i *)a), y = _mm256_loadu_si256((const __m256i *)b);
    const __m256i *w = (const __m256i *)weights;
    sums[0] += (vi)_mm256_madd_epi16(_mm256_unpacklo_epi16(x, y), _mm256_loadu_si256(w));
    sums[1] += (vi)_mm256_madd_epi16(_mm256_unpackhi_epi16(x, y), _mm256_loadu_si256(w + 1));
#elif defined(__SSE2__)
    __m128i x = _mm_loadu_si128((const __m128i *)a), y = _mm_loadu_si128((const __m128i *)b);
    const __m128i *w = (const __m128i *)weights;
    sums[0] += (vi)_mm_madd_epi16(_mm_unpacklo_epi16(x, y), _mm_loadu_si128(w));
    sums[1] += (vi)_mm_madd_epi16(_mm_unpackhi_epi16(x, y), _mm_loadu_si128(w + 1));
#elif defined(__ARM_NEON)
    for (int v = 0; v < 2; v++) {
        int16x4x2_t w = vld2_s16(weights + 8 * v);
        int32x4_t sum = vmlal_s16((int32x4_t)sums[v], vld1_s16(a + 4 * v), w.val[0]);
        sums[v] = (vi)vmlal_s16(sum, vld1_s16(b + 4 * v), w.val[1]);
    }
#else
    for (int v = 0; v < 2; v++)
        for (int i = 0; i < 4; i++) {
            const int16_t *w = weights + 2 * (4 * v + i);
            sums[v][i] += a[4 * v + i] * w[0] + b[4 * v + i] * w[1];
        }
#endif
}

#endif
