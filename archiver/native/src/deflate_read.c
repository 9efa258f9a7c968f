/* The bits of a deflate stream, read into blocks of tokens. */
#include "deflate.h"

enum { FAST_BITS = 9 };

typedef struct { /* of one code */
    int n_of[MAX_BITS + 1]; /* codes of each length */
    uint16_t symbols[N_FIXED]; /* in order of codes */
    uint16_t fast[1 << FAST_BITS]; /* by the next bits: symbol << 4 | length; 0: none, or a longer one */
} Decoder;

typedef struct {
    Decoder literals, distances;
} Decoders;

typedef struct {
    const Stream *s;
    int64_t at;     /* bit */
    int64_t n_tokens, n_headers, position; /* so far; position in what they make */
    Decoders fixed, dynamic;
} Reader;

/* Return n <= 16 bits at bit `at`, -1 beyond the end. */
INLINE int get(const uint8_t *data, int64_t size, int64_t at, int n) {
    if (at + n > 8 * size) return -1;
    int64_t byte = at >> 3;
    uint64_t word = 0;
    if (byte + 8 <= size) word = load64(data + byte);
    else if (byte < size) memcpy(&word, data + byte, (size_t)(size - byte));
    return (int)(word >> (at & 7) & ((1u << n) - 1));
}

/* Have the short codes found by a look at bits; a code that no symbol is left for is never reached. */
static void fill_fast(Decoder *d) {
    int code = 0, index = 0;
    memset(d->fast, 0, sizeof d->fast);
    for (int bits = 1; bits <= FAST_BITS; bits++) {
        code <<= 1;
        for (int i = 0; i < d->n_of[bits] && code + i < 1 << bits; i++) {
            int turned = 0;
            for (int k = 0; k < bits; k++) turned |= ((code + i) >> k & 1) << (bits - 1 - k);
            uint16_t found = (uint16_t)(d->symbols[index + i] << 4 | bits);
            for (int place = turned; place < 1 << FAST_BITS; place += 1 << bits) d->fast[place] = found;
        }
        code += d->n_of[bits];
        index += d->n_of[bits];
    }
}

static void make_decoder(Decoder *d, const uint8_t *lengths, int n) {
    int starts[MAX_BITS + 2] = {0};
    memset(d->n_of, 0, sizeof d->n_of);
    for (int symbol = 0; symbol < n; symbol++) d->n_of[lengths[symbol]]++;
    d->n_of[0] = 0;
    for (int bits = 1; bits <= MAX_BITS; bits++) starts[bits + 1] = starts[bits] + d->n_of[bits];
    for (int symbol = 0; symbol < n; symbol++)
        if (lengths[symbol]) d->symbols[starts[lengths[symbol]]++] = (uint16_t)symbol;
    fill_fast(d);
}

static void make_decoders(Decoders *both, const Lengths *lengths) {
    make_decoder(&both->literals, lengths->literals, N_FIXED);
    make_decoder(&both->distances, lengths->distances, N_DISTANCES);
}

/* Return the symbol at bit `at`, bit by bit, and go behind it; -1 for none. */
static int long_symbol(const uint8_t *data, int64_t size, int64_t *at, const Decoder *d) {
    int code = 0, first = 0, index = 0;
    for (int bits = 1; bits <= MAX_BITS; bits++) {
        if (*at >= 8 * size) return -1;
        code |= data[*at >> 3] >> (*at & 7) & 1;
        ++*at;
        if (code - first < d->n_of[bits]) return d->symbols[index + code - first];
        index += d->n_of[bits];
        first = (first + d->n_of[bits]) << 1;
        code <<= 1;
    }
    return -1;
}

INLINE int symbol_at(const uint8_t *data, int64_t size, int64_t *at, const Decoder *d) {
    if ((*at >> 3) + 8 <= size) {
        int found = d->fast[load64(data + (*at >> 3)) >> (*at & 7) & ((1 << FAST_BITS) - 1)];
        if (found) {
            *at += found & 15;
            return found >> 4;
        }
    }
    return long_symbol(data, size, at, d);
}

/* Read the lengths of n codes, run by run; return the bit after them, -1 if they are damaged. */
static int64_t read_lengths(const uint8_t *data, int64_t size, int64_t at, const Decoder *d, int n, uint8_t *both) {
    static const int n_bits[] = {2, 3, 7}, least[] = {3, 3, 11};
    for (int i = 0; i < n;) {
        int symbol = symbol_at(data, size, &at, d);
        if (symbol < 0 || (symbol == 16 && i == 0)) return -1;
        if (symbol < 16) {
            both[i++] = (uint8_t)symbol;
            continue;
        }
        int more = get(data, size, at, n_bits[symbol - 16]), count = least[symbol - 16] + more;
        if (more < 0 || i + count > n) return -1;
        memset(both + i, symbol == 16 ? both[i - 1] : 0, (size_t)count);
        at += n_bits[symbol - 16];
        i += count;
    }
    return at;
}

/* Read the two codes of a dynamic block; return the bit after them, -1 if they are damaged. */
int64_t deflate_read_header(const uint8_t *data, int64_t size, int64_t at, Lengths *lengths) {
    int n_literals = get(data, size, at, 5) + 257, n_distances = get(data, size, at + 5, 5) + 1;
    int n_lengths = get(data, size, at + 10, 4) + 4;
    if (n_literals < 257 || n_distances < 1 || n_lengths < 4) return -1;
    if (n_literals > N_LITERALS || n_distances > N_DISTANCES) return -1;
    at += 14;
    uint8_t own[N_LENGTHS] = {0}, both[N_LITERALS + N_DISTANCES];
    for (int i = 0; i < n_lengths; i++, at += 3) {
        int bits = get(data, size, at, 3);
        if (bits < 0) return -1;
        own[deflate_order[i]] = (uint8_t)bits;
    }
    Decoder decoder;
    make_decoder(&decoder, own, N_LENGTHS);
    at = read_lengths(data, size, at, &decoder, n_literals + n_distances, both);
    if (at < 0) return -1;
    memset(lengths, 0, sizeof *lengths);
    memcpy(lengths->literals, both, (size_t)n_literals);
    memcpy(lengths->distances, both + n_literals, (size_t)n_distances);
    return at;
}

/* Read the rest of a match, whose length has this code, as token n; return whether there is one. */
INLINE int read_match(Reader *r, const Decoder *distances, int code, int64_t n) {
    const Stream *s = r->s;
    if (code >= 29) return 0;
    int more = get(s->data, s->size, r->at, deflate_length_extra[code]);
    if (more < 0 || (code == 27 && more == 31)) return 0; /* 258 said in the long way */
    r->at += deflate_length_extra[code];
    int far = symbol_at(s->data, s->size, &r->at, distances);
    if (far < 0) return 0;
    int further = get(s->data, s->size, r->at, deflate_distance_extra[far]);
    if (further < 0) return 0;
    r->at += deflate_distance_extra[far];
    s->lengths[n] = (uint16_t)(deflate_length_base[code] + more);
    s->distances[n] = (uint16_t)(deflate_distance_base[far] + further);
    return 1;
}

/* Read the tokens of a block; return their end, -1 if it is damaged. */
static int64_t read_tokens(Reader *r, const Decoders *codes) {
    const Stream *s = r->s;
    for (int64_t n = r->n_tokens;; n++) {
        int symbol = symbol_at(s->data, s->size, &r->at, &codes->literals);
        if (symbol == END) return n;
        if (symbol < 0 || n >= s->n_tokens) return -1;
        if (symbol < END) s->lengths[n] = s->distances[n] = 0;
        else if (!read_match(r, &codes->distances, symbol - END - 1, n)) return -1;
    }
}

/* Read a stored block; return whether there is one. */
static int read_stored(Reader *r, int64_t *block) {
    const Stream *s = r->s;
    int pad = (int)(-r->at & 7);
    int length = get(s->data, s->size, r->at + pad, 16), check = get(s->data, s->size, r->at + pad + 16, 16);
    if (get(s->data, s->size, r->at, pad) != 0 || length < 0 || check != (length ^ 0xFFFF)) return 0;
    block[COUNT] = length;
    r->at += pad + 32 + 8 * (int64_t)length;
    r->position += length;
    return 1;
}

/* Copy the bits of a header that is not the predicted one; return how many, -1: too many. */
static int64_t keep_header(const Reader *r, int64_t start, int64_t n_bits, const Counts *counts) {
    uint8_t predicted[MAX_HEADER_BITS], *headers = r->s->headers + r->n_headers;
    if (n_bits > r->s->n_headers - r->n_headers) return -1;
    int same = deflate_predicted_header(counts, predicted) == n_bits;
    for (int64_t i = 0; i < n_bits; i++) headers[i] = r->s->data[(start + i) >> 3] >> ((start + i) & 7) & 1;
    return same && !memcmp(headers, predicted, (size_t)n_bits) ? 0 : n_bits;
}

/* Read a block of tokens; return whether it is sound. */
static int read_coded(Reader *r, int64_t *block) {
    int64_t start = r->at, n_bits = 0;
    const Decoders *codes = &r->fixed;
    if (block[TYPE] == DYNAMIC) {
        Lengths lengths;
        r->at = deflate_read_header(r->s->data, r->s->size, start, &lengths);
        if (r->at < 0) return 0;
        n_bits = r->at - start;
        make_decoders(&r->dynamic, &lengths);
        codes = &r->dynamic;
    }
    int64_t end = read_tokens(r, codes);
    if (end < 0) return 0;
    block[COUNT] = end - r->n_tokens;
    int64_t covered = deflate_covered(r->s, block, r->n_tokens, r->position);
    if (covered < 0) return 0;
    if (block[TYPE] == DYNAMIC) {
        Counts counts;
        deflate_count(r->s, (int64_t[]){r->n_tokens, end, r->position}, &counts);
        block[HEADER] = keep_header(r, start, n_bits, &counts);
        if (block[HEADER] < 0) return 0;
        r->n_headers += block[HEADER];
    }
    r->n_tokens = end;
    r->position += covered;
    return 1;
}

/* Read a whole stream of `raw`: fill tokens, rows of blocks, which are zeros, and bits of odd headers.
 *
 * Returns the number of tokens, and in `found` those of blocks, of bits of headers and of bits of the stream; -1 if
 * it is damaged, or says something in a way that archiver_deflate_write() does not. */
API int64_t archiver_deflate_read(const Stream *s, int64_t found[3]) {
    Reader r = {.s = s};
    Lengths lengths;
    deflate_fixed(&lengths);
    make_decoders(&r.fixed, &lengths);
    for (int64_t n = 0; n < s->n_blocks; n++) {
        int64_t *block = s->blocks + n * COLUMNS;
        block[LAST] = get(s->data, s->size, r.at, 1);
        block[TYPE] = get(s->data, s->size, r.at + 1, 2);
        r.at += 3;
        if (block[LAST] < 0 || block[TYPE] < 0 || block[TYPE] > DYNAMIC) return -1;
        if (block[TYPE] == STORED ? !read_stored(&r, block) : !read_coded(&r, block)) return -1;
        if (!block[LAST]) continue;
        int pad = (int)(-r.at & 7);
        if (r.position != s->raw_size || get(s->data, s->size, r.at, pad) != 0) return -1;
        found[0] = n + 1;
        found[1] = r.n_headers;
        found[2] = r.at + pad;
        return r.n_tokens;
    }
    return -1;
}
