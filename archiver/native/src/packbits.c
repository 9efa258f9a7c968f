/* PackBits as two encoders of TIFF write it, row by row (see strips.py). */
#include "core.h"

enum { MOST = 128 }; /* bytes of a packet */
enum { BASE, COPY, RUN, JOIN }; /* states of libtiff's encoder */

/* How many bytes from `at` on are equal. */
static int64_t run(const uint8_t *row, int64_t n, int64_t at) {
    int64_t end = at + 1;
    while (end < n && row[end] == row[at]) end++;
    return end - at;
}

/* The first place from `at` on of two equal bytes before `end`, -1 for none. */
static int64_t pair(const uint8_t *row, int64_t n, int64_t at, int64_t end) {
    for (int64_t i = at; i < (end < n ? end : n) - 1; i++)
        if (row[i] == row[i + 1]) return i;
    return -1;
}

/* Write copies of 128 bytes, the last one of fewer; return the size then. */
static int64_t copy(const uint8_t *row, int64_t n, uint8_t *out, int64_t size) {
    for (int64_t at = 0; at < n; at += MOST) {
        int64_t part = n - at < MOST ? n - at : MOST;
        out[size] = (uint8_t)(part - 1);
        memcpy(out + size + 1, row + at, (size_t)part);
        size += 1 + part;
    }
    return size;
}

/* Write one row by imagecodecs' rule: a short run between copies does not end them; copies, if that is no larger. */
static int64_t look_ahead(const uint8_t *row, int64_t n, uint8_t *out, int64_t start) {
    int64_t size = start, most = start + n + (n + MOST - 1) / MOST;
    for (int64_t at = 0, part; at < n; at += part) {
        int64_t end = at + MOST + 1, first = pair(row, n, at, end);
        if (first == at) {
            part = run(row, n, at);
            if (part > MOST) part = MOST;
            if (size + 2 > most) return copy(row, n, out, start);
            out[size++] = (uint8_t)(257 - part);
            out[size++] = row[at];
            continue;
        }
        if (first >= 0 && run(row, n, first) == 2) {
            int64_t after = pair(row, n, first + 2, end);
            if (after > first + 2) first = after;
        }
        part = (first < 0 ? n : first) - at;
        if (part > MOST) part = MOST;
        if (size + 1 + part >= most) return copy(row, n, out, start);
        size = copy(row + at, part, out, size);
    }
    return size;
}

typedef struct {
    uint8_t *out;
    int64_t size, first; /* first: where the last copy begins */
    int state;
} Joiner;

/* Have a run of two, before which and after which bytes are copied, copied with them. */
static void join(Joiner *j, int64_t n) {
    uint8_t *out = j->out;
    j->state = RUN;
    if (n != 1 || out[j->size - 2] != 255 || out[j->first] >= 126) return;
    out[j->first] += 2;
    out[j->size - 2] = out[j->size - 1];
    j->state = out[j->first] == 127 ? BASE : COPY;
}

/* Write up to 128 of n equal bytes. */
static void add(Joiner *j, uint8_t byte, int64_t n) {
    uint8_t *out = j->out;
    if (j->state == JOIN) join(j, n);
    if (n > 1) {
        out[j->size++] = (uint8_t)(257 - (n < MOST ? n : MOST));
        out[j->size++] = byte;
        j->state = j->state == COPY ? JOIN : RUN;
    } else if (j->state == COPY) {
        out[j->size++] = byte;
        j->state = ++out[j->first] == 127 ? BASE : COPY;
    } else {
        j->first = j->size;
        j->state = COPY;
        out[j->size++] = 0;
        out[j->size++] = byte;
    }
}

/* Write one row by libtiff's rule. */
static int64_t joined(const uint8_t *row, int64_t n, uint8_t *out, int64_t size) {
    Joiner j = {.out = out, .size = size, .state = BASE};
    for (int64_t at = 0; at < n;) {
        int64_t same = run(row, n, at);
        for (int64_t left = same; left > 0; left -= MOST) add(&j, row[at], left);
        at += same;
    }
    return j.size;
}

/* Write the packets of rows of n bytes, each by itself, into two bytes for each and two for each row; return their
 * size. */
API int64_t archiver_packbits(const uint8_t *rows, int64_t n_rows, int64_t n, int is_libtiff, uint8_t *out) {
    int64_t size = 0;
    for (int64_t i = 0; i < n_rows; i++)
        size = is_libtiff ? joined(rows + i * n, n, out, size) : look_ahead(rows + i * n, n, out, size);
    return size;
}
