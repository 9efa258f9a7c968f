/* The packets of PackBits that no known encoder wrote: predicted by a simple rule, with exceptions (see runs.py). */
#include "core.h"

enum { MOST = 128 }; /* bytes of a packet */

typedef struct { /* the least run that begins a packet, that ends a copy; bytes after which packets end, 0: none */
    int64_t starts, ends, row;
} Rule;

/* How many bytes of its plane a packet gives, by its first byte. */
static int64_t count_of(int control) { return control < MOST ? control + 1 : 257 - control; }

/* Take the first bytes of the packets that give n bytes; return where they end, -1 if there are none such.
 *
 * `controls` has room for as many as n, or as there are bytes after `at`, whatever is less. */
API int64_t archiver_runs_packets(const uint8_t *stored, int64_t size, int64_t at, int64_t n, uint8_t *controls,
                                  int64_t *count) {
    int64_t done = 0;
    for (*count = 0; done < n; ++*count) {
        if (at >= size || stored[at] == MOST) return -1;
        int control = controls[*count] = stored[at];
        done += count_of(control);
        at += control < MOST ? control + 2 : 2;
    }
    return done == n && at <= size ? at : -1;
}

/* The first byte of the packet that a simple encoder would begin at p. */
static int predicted(const uint8_t *plane, int64_t size, int64_t p, const Rule *rule) {
    int64_t end = rule->row ? (p / rule->row + 1) * rule->row : size, run = 1;
    if (end > size) end = size;
    while (run < MOST && p + run < end && plane[p + run] == plane[p]) run++;
    if (run >= rule->starts) return (int)(257 - run);
    int64_t first = p + 1, same = 1; /* of the bytes after p, where those equal to the latest begin */
    for (int64_t q = p + 2; q < end && q < p + MOST + rule->ends - 1; q++) {
        same = plane[q] == plane[q - 1] ? same + 1 : 1;
        if (same == 1) first = q;
        if (same == rule->ends) return (int)(first - p < MOST ? first - p : MOST) - 1;
    }
    return (int)(end - p < MOST ? end - p : MOST) - 1;
}

/* Note the numbers of the packets that are not predicted, the first `room` of them; return how many. */
API int64_t archiver_runs_exceptions(const uint8_t *plane, int64_t size, const uint8_t *controls, int64_t n,
                                     const Rule *rule, int64_t *numbers, int64_t room) {
    int64_t p = 0, count = 0;
    for (int64_t number = 0; number < n && count < room && p < size; number++) {
        if (controls[number] != predicted(plane, size, p, rule)) numbers[count++] = number;
        p += count_of(controls[number]);
    }
    return count;
}

/* Write the packets of a plane into two bytes for each; return their size, -1 if they do not end with it. */
API int64_t archiver_runs_written(const uint8_t *plane, int64_t size, const int64_t *numbers, const uint8_t *firsts,
                                  int64_t n, const Rule *rule, uint8_t *out) {
    int64_t p = 0, told = 0, written = 0;
    for (int64_t number = 0; p < size; number++) {
        int is_told = told < n && numbers[told] == number;
        int control = is_told ? firsts[told++] : predicted(plane, size, p, rule);
        int64_t count = count_of(control), copied = control < MOST ? count : 1;
        if (control == MOST || p + count > size) return -1;
        out[written] = (uint8_t)control;
        memcpy(out + written + 1, plane + p, (size_t)copied);
        written += 1 + copied;
        p += count;
    }
    return told == n ? written : -1;
}
