/* Deflate (RFC 1951), as far as several files know of it.  Bytes are little-endian, as is every machine here. */
#ifndef ARCHIVER_DEFLATE_H
#define ARCHIVER_DEFLATE_H

#include "core.h"

/* Sizes of the alphabets; the fixed code has two symbols more, which mean nothing. */
enum { N_LITERALS = 286, N_FIXED = 288, N_DISTANCES = 30, N_LENGTHS = 19 };
enum { END = 256, MAX_BITS = 15, MAX_LENGTH_BITS = 7, MIN_MATCH = 3, MAX_MATCH = 258 }; /* END: ends a block */
enum { MAX_HEADER_BITS = 14 + 3 * N_LENGTHS + (MAX_LENGTH_BITS + 7) * (N_LITERALS + N_DISTANCES) };
enum { MAX_BLOCK_BITS = 64 + MAX_HEADER_BITS }; /* of a block, beside its tokens */
enum { STORED, FIXED, DYNAMIC };
enum { TYPE, LAST, COUNT, HEADER, COLUMNS }; /* columns of a block; HEADER: bits that are stored, 0: as predicted */

/* A stream, what it inflates to, and its tokens: a literal has length 0.  Python owns and measures all of it. */
typedef struct {
    uint8_t *data;
    int64_t size;
    const uint8_t *raw;
    int64_t raw_size;
    uint16_t *lengths, *distances;
    int64_t n_tokens;
    int64_t *blocks; /* (n_blocks, COLUMNS) */
    int64_t n_blocks;
    uint8_t *headers; /* bits, one in a byte */
    int64_t n_headers;
} Stream;

typedef struct {
    int64_t literals[N_LITERALS], distances[N_DISTANCES];
} Counts;

typedef struct { /* of the two codes of a block, in bits; 0: no code */
    uint8_t literals[N_FIXED], distances[N_DISTANCES];
} Lengths;

extern const uint8_t deflate_order[N_LENGTHS];
extern const uint16_t deflate_length_base[29], deflate_distance_base[N_DISTANCES];
extern const uint8_t deflate_length_extra[29], deflate_distance_extra[N_DISTANCES];

/* deflate_codes.c */
void deflate_fixed(Lengths *lengths);
void deflate_codes_of(const uint8_t *lengths, int n, uint16_t *codes);
int64_t deflate_predicted_header(const Counts *counts, uint8_t *bits);

/* deflate_tokens.c */
int64_t deflate_covered(const Stream *s, const int64_t *block, int64_t first, int64_t position);
void deflate_count(const Stream *s, const int64_t span[3], Counts *counts);

/* deflate_read.c */
int64_t deflate_read_header(const uint8_t *data, int64_t size, int64_t at, Lengths *lengths);

INLINE int floor_log2(uint32_t n) { return 31 - __builtin_clz(n); }

/* The code of a match's length, from MIN_MATCH to MAX_MATCH */
INLINE int length_code(int length) {
    int more = length - MIN_MATCH;
    if (more < 8) return more;
    if (length == MAX_MATCH) return 28;
    int n = floor_log2((uint32_t)more);
    return 4 * (n - 1) + (more >> (n - 2) & 3);
}

INLINE int distance_code(int distance) {
    int less = distance - 1;
    if (less < 2) return less < 0 ? 0 : less;
    int n = floor_log2((uint32_t)less), code = 2 * n + (less >> (n - 1) & 1);
    return code < N_DISTANCES ? code : N_DISTANCES - 1;
}

INLINE uint64_t load64(const uint8_t *from) {
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

#endif
