/* LZW as two encoders of TIFF write it (see strips.py). */
#include "core.h"

enum { CLEAR = 256, CODES_END = 257, FIRST_FREE = 258, LEAST_WIDTH = 9, MOST_WIDTH = 12 };
enum { FULL = 4096, FULL_LIBTIFF = 4094 }; /* codes at which the table is cleared */
enum { CHECK = 10000 };                    /* bytes after which libtiff asks whether its table still pays */

typedef struct {
    uint8_t *out;
    int64_t bits; /* written so far */
    int width;    /* of a code, in bits */
    int is_libtiff;
    int64_t free;                    /* the next code */
    int64_t taken, due, best, start; /* of libtiff's question: bytes so far, when, last ratio, bit of the last clear */
} Lzw;

static void put(Lzw *z, int code) {
    int64_t at = z->bits >> 3;
    int used = z->bits & 7;
    uint32_t value = (uint32_t)code << (24 - z->width - used);
    z->out[at] = (uint8_t)(used ? z->out[at] | value >> 16 : value >> 16);
    z->out[at + 1] = (uint8_t)(value >> 8);
    z->out[at + 2] = (uint8_t)value;
    z->bits += z->width;
}

/* libtiff's ratio of bytes taken to bits written, in 256ths. */
static int64_t ratio(int64_t taken, int64_t written) {
    return taken < 1 << 23 ? 256 * taken / written : taken / (written >> 8);
}

/* Whether the table is cleared after this code; else codes may get wider. */
static int must_clear(Lzw *z) {
    if (z->free == (z->is_libtiff ? FULL_LIBTIFF : FULL)) return 1;
    if (z->free == 1 << z->width) {
        z->width++;
        return 0;
    }
    if (!z->is_libtiff || z->taken < z->due) return 0;
    z->due = z->taken + CHECK;
    int64_t now = ratio(z->taken, z->bits - z->start), before = z->best;
    z->best = now;
    return now <= before;
}

static void clear(Lzw *z) {
    put(z, CLEAR);
    z->start = z->bits - z->width;
    z->width = LEAST_WIDTH;
    z->free = FIRST_FREE;
    z->taken = z->best = 0;
}

/* Write the last code and the end; return the bytes of all. */
static int64_t finish(Lzw *z, int known) {
    put(z, known);
    z->free++;
    if (z->is_libtiff && z->free == FULL_LIBTIFF) {
        put(z, CLEAR);
        z->width = LEAST_WIDTH;
    } else if (z->free == 1 << z->width && z->width < MOST_WIDTH) {
        z->width++;
    }
    put(z, CODES_END);
    if (z->bits % 8 == 0 && !z->is_libtiff) {
        z->out[z->bits >> 3] = 0;
        z->bits += 8;
    }
    return (z->bits + 7) >> 3;
}

/* Write the codes of n bytes; return their size.
 *
 * `table`, FULL x 256 zeros, holds the code of a code and a byte, with the number of the clearing it comes after.
 * `out` has 2 n + 64 bytes: a code takes 12 bits at most, a byte gives one at most, and few are what clears. */
API int64_t archiver_lzw(const uint8_t *data, int64_t n, int is_libtiff, int32_t *table, uint8_t *out) {
    Lzw z = {.out = out, .width = LEAST_WIDTH, .is_libtiff = is_libtiff, .free = FIRST_FREE, .taken = 1, .due = CHECK};
    if (!n) return 0;
    put(&z, CLEAR);
    int known = data[0], era = 1;
    for (int64_t i = 1; i < n; i++) {
        int32_t *code = table + known * 256 + data[i];
        z.taken++;
        if (*code >> 12 == era) {
            known = *code & (FULL - 1);
            continue;
        }
        put(&z, known);
        *code = (int32_t)((uint32_t)era << 12 | (uint32_t)z.free++);
        known = data[i];
        if (must_clear(&z)) {
            clear(&z);
            era++;
        }
    }
    return finish(&z, known);
}
