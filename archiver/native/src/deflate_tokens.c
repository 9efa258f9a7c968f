/* The tokens of deflate blocks: what they stand for, and how often each symbol occurs. */
#include "deflate.h"

const uint16_t deflate_length_base[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                          31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
const uint8_t deflate_length_extra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                          2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
const uint16_t deflate_distance_base[N_DISTANCES] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,
                                                     33,  49,  65,  97,  129, 193,  257,  385,  513,  769,
                                                     1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
const uint8_t deflate_distance_extra[N_DISTANCES] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                                     6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};

/* The bytes that a block makes; -1 if those, or its tokens, are not there, or one has a length that none has. */
int64_t deflate_covered(const Stream *s, const int64_t *block, int64_t first, int64_t position) {
    int64_t covered = 0, count = block[COUNT], room = s->raw_size - position;
    if (count < 0) return -1;
    if (block[TYPE] == STORED) return count <= room ? count : -1;
    if (count > s->n_tokens - first) return -1;
    for (int64_t i = first; i < first + count; i++) {
        int length = s->lengths[i];
        if (length && (length < MIN_MATCH || length > MAX_MATCH)) return -1;
        covered += length ? length : 1;
    }
    return covered <= room ? covered : -1;
}

/* Count symbols; `span`, which deflate_covered() has seen: the first token, the end of tokens, where they stand. */
void deflate_count(const Stream *s, const int64_t span[3], Counts *counts) {
    int64_t at = span[2];
    memset(counts, 0, sizeof *counts);
    for (int64_t i = span[0]; i < span[1]; i++) {
        int length = s->lengths[i];
        if (!length) {
            counts->literals[s->raw[at++]]++;
            continue;
        }
        counts->literals[END + 1 + length_code(length)]++;
        counts->distances[distance_code(s->distances[i])]++;
        at += length;
    }
    counts->literals[END] = 1;
}
