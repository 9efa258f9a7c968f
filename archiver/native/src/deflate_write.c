/* The bits of a deflate stream, written from blocks of tokens. */
#include "deflate.h"

typedef struct {
    const Stream *s;
    int64_t at;                     /* bit */
    int64_t first, position, n_headers; /* next token, its place in what they make, bits of headers that were used */
} Writer;

/* Write n <= 16 bits over zeros.  archiver_deflate_write() sees to room for four bytes. */
INLINE void put(Writer *w, int value, int n) {
    uint8_t *to = w->s->data + (w->at >> 3);
    uint32_t word;
    memcpy(&word, to, sizeof word);
    word |= ((uint32_t)value & ((1u << n) - 1)) << (w->at & 7);
    memcpy(to, &word, sizeof word);
    w->at += n;
}

static void write_stored(Writer *w, int64_t count) {
    w->at += -w->at & 7;
    put(w, (int)count, 16);
    put(w, (int)count ^ 0xFFFF, 16);
    memcpy(w->s->data + (w->at >> 3), w->s->raw + w->position, (size_t)count);
    w->at += 8 * count;
    w->position += count;
}

/* Write the header of a dynamic block, and read it; return whether that is possible. */
static int write_header(Writer *w, const int64_t *block, Lengths *lengths) {
    const Stream *s = w->s;
    uint8_t predicted[MAX_HEADER_BITS];
    const uint8_t *bits = s->headers + w->n_headers;
    int64_t n = block[HEADER], start = w->at;
    if (n < 0 || n > MAX_HEADER_BITS || n > s->n_headers - w->n_headers) return 0;
    w->n_headers += n;
    if (n == 0) {
        Counts counts;
        deflate_count(s, (int64_t[]){w->first, w->first + block[COUNT], w->position}, &counts);
        n = deflate_predicted_header(&counts, predicted);
        bits = predicted;
    }
    for (int64_t i = 0; i < n; i++) put(w, bits[i], 1);
    return deflate_read_header(s->data, s->size, start, lengths) == w->at;
}

/* Write the tokens of a block and its end; return whether all have a code. */
static int write_tokens(Writer *w, int64_t end, const Lengths *lengths) {
    const Stream *s = w->s;
    uint16_t literals[N_FIXED], distances[N_DISTANCES];
    deflate_codes_of(lengths->literals, N_FIXED, literals);
    deflate_codes_of(lengths->distances, N_DISTANCES, distances);
    for (; w->first < end; w->first++) {
        int length = s->lengths[w->first], code = length ? length_code(length) : 0;
        int symbol = length ? END + 1 + code : s->raw[w->position];
        if (!lengths->literals[symbol]) return 0;
        put(w, literals[symbol], lengths->literals[symbol]);
        w->position += length ? length : 1;
        if (!length) continue;
        put(w, length - deflate_length_base[code], deflate_length_extra[code]);
        int distance = s->distances[w->first], far = distance_code(distance);
        if (!lengths->distances[far]) return 0;
        put(w, distances[far], lengths->distances[far]);
        put(w, distance - deflate_distance_base[far], deflate_distance_extra[far]);
    }
    if (!lengths->literals[END]) return 0;
    put(w, literals[END], lengths->literals[END]);
    return 1;
}

/* Write a block; return whether it fits and all of it can be written. */
static int write_block(Writer *w, const int64_t *block) {
    const Stream *s = w->s;
    int64_t covered = deflate_covered(s, block, w->first, w->position);
    if (covered < 0 || w->at + MAX_BLOCK_BITS + 16 * covered > 8 * s->size) return 0;
    put(w, (int)block[LAST], 1);
    put(w, (int)block[TYPE], 2);
    if (block[TYPE] == STORED) {
        write_stored(w, covered);
        return 1;
    }
    Lengths lengths;
    deflate_fixed(&lengths);
    if (block[TYPE] != FIXED && !write_header(w, block, &lengths)) return 0;
    return write_tokens(w, w->first + block[COUNT], &lengths);
}

/* Write blocks of tokens into zeros; return the bytes written, -1 if they do not fit. */
API int64_t archiver_deflate_write(const Stream *s) {
    Writer w = {.s = s};
    for (int64_t n = 0; n < s->n_blocks; n++)
        if (!write_block(&w, s->blocks + n * COLUMNS)) return -1;
    return (w.at + 7) >> 3;
}
