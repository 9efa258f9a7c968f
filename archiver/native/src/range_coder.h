/* The range coder of digits: FORMAT.md, "Stream".  Words of 32 bits, a state of 64, edges of 24 bits. */
#ifndef ARCHIVER_RANGE_CODER_H
#define ARCHIVER_RANGE_CODER_H

#include "core.h"

#define RADIX 16
#define TOTAL (1u << 24)
#define FREE_COUNTS 16777200.0f /* TOTAL - 16: every digit gets 1 first */

/* Return where, of TOTAL, digit j begins: `count` is the sum of the frequencies before it, `scale` FREE_COUNTS over
 * the sum of all.  One rounded product, then the fraction is dropped. */
INLINE uint32_t edge_of(float count, float scale, int j) { return (uint32_t)(int32_t)(count * scale) + (uint32_t)j; }

typedef struct {
    uint64_t lower, range;
    uint32_t *words;
    size_t n;
} Encoder;

INLINE void encoder_start(Encoder *e, uint32_t *words) {
    e->lower = 0;
    e->range = UINT64_MAX;
    e->words = words;
    e->n = 0;
}

INLINE void encoder_carry(Encoder *e) {
    for (size_t i = e->n; i-- > 0 && ++e->words[i] == 0;) {}
}

/* Code the interval from `left`, `width` wide, of TOTAL; at most 24 bits come out. */
INLINE void encoder_put(Encoder *e, uint32_t left, uint32_t width) {
    const uint64_t step = e->range >> 24, lower = e->lower + step * left;
    if (lower < e->lower) encoder_carry(e);
    e->lower = lower;
    e->range = step * width;
    if (e->range < (uint64_t)1 << 32) {
        e->words[e->n++] = (uint32_t)(e->lower >> 32);
        e->lower <<= 32;
        e->range <<= 32;
    }
}

/* Write the words that mark a point within the last interval; returns how many there are in all. */
INLINE size_t encoder_end(Encoder *e) {
    if (e->range == UINT64_MAX) return 0; /* nothing was coded */
    const uint64_t point = e->lower + UINT32_MAX, upper = e->lower + e->range;
    if (point < e->lower) encoder_carry(e);
    e->words[e->n++] = (uint32_t)(point >> 32);
    if (upper >> 32 == point >> 32) e->words[e->n++] = 0;
    return e->n;
}

typedef struct {
    uint64_t ahead, range, step; /* the point, from the interval's lower end */
    const uint8_t *next, *end;   /* of whole words, little-endian; past the end they are 0 */
} Decoder;

INLINE uint32_t decoder_word(Decoder *d) {
    if (d->next >= d->end) return 0;
    const uint8_t *p = d->next;
    d->next += 4;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* `bytes` is a multiple of 4. */
INLINE void decoder_start(Decoder *d, const uint8_t *payload, size_t bytes) {
    d->next = payload;
    d->end = payload + bytes;
    d->range = UINT64_MAX;
    d->ahead = (uint64_t)decoder_word(d) << 32;
    d->ahead |= decoder_word(d);
}

/* Return the place of the next point, of TOTAL; TOTAL or more if the stream is beyond its interval. */
INLINE uint64_t decoder_place(Decoder *d) {
    d->step = d->range >> 24;
    return d->ahead / d->step;
}

INLINE void decoder_take(Decoder *d, uint32_t left, uint32_t width) {
    d->ahead -= d->step * left;
    d->range = d->step * width;
    if (d->range < (uint64_t)1 << 32) {
        d->range <<= 32;
        d->ahead = d->ahead << 32 | decoder_word(d);
    }
}

#endif
