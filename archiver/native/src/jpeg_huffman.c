/* The entropy-coded bytes of baseline JPEG (T.81): coefficients of blocks, read and written.
 *
 * Bounds: bytes are read and written only below `size`; tables have an entry for every 16 bits, for every symbol of 8
 * bits, and for every category of what two 16-bit numbers differ by; a run that leaves its block ends the reading.
 */
#include <stdlib.h>

#include "core.h"

enum {
    BLOCK = 64,
    MOST_MAGNITUDE = (1 << 14) - 1, /* of a coefficient */
    MOST_COMPONENTS = 4,
    LONGEST = 16, /* bits of a code */
    RUN_OF_16 = 0xF0,
};

/* What a scan is made of; tables are by component. */
typedef struct {
    int64_t n_mcus;
    int64_t restart;       /* MCUs between markers, 0 for no markers */
    int64_t n_of_mcu;      /* blocks of an MCU */
    const uint8_t *of_mcu; /* (n_of_mcu,): component of each block of an MCU, below MOST_COMPONENTS */
    const void *dc, *ac;   /* to read (components, 2^16) of int16, to write (components, 256) of int32 */
    int16_t *blocks;       /* (n_mcus * n_of_mcu, 64), zigzag order; written by the reader */
    uint8_t *bytes;        /* (size,): the scan; written by the writer */
    int64_t size;
} JpegScan;

/* ---- reading ---- */

typedef struct {
    const uint8_t *bytes;
    int64_t size, at;
    uint64_t bits; /* the last `n` of them are at hand */
    int n;
    int64_t made_up; /* bytes beyond the end, or a marker */
} Reader;

/* Have at least 32 bits at hand, zeros beyond the end or a marker. */
INLINE void fill(Reader *reader) {
    while (reader->n < 32) {
        uint8_t byte = reader->at < reader->size ? reader->bytes[reader->at] : 0;
        if (reader->at >= reader->size) {
            reader->made_up++;
        } else if (byte != 0xFF) {
            reader->at++;
        } else if (reader->at + 1 < reader->size && reader->bytes[reader->at + 1] == 0) {
            reader->at += 2;
        } else { /* a marker */
            byte = 0;
            reader->made_up++;
        }
        reader->bits = reader->bits << 8 | byte;
        reader->n += 8;
    }
}

/* Return the next symbol, -1 if there is none.
 *
 * `table` has, for every 16 bits, 256 times the length of the code they begin with, plus its symbol. */
INLINE int symbol(Reader *reader, const int16_t *table) {
    fill(reader);
    int entry = table[reader->bits >> (reader->n - LONGEST) & 0xFFFF];
    if (entry < 0) return -1;
    reader->n -= entry >> 8;
    return entry & 255;
}

/* Return a number of a category, at most 15. */
INLINE int number(Reader *reader, int size) {
    if (!size) return 0;
    fill(reader);
    reader->n -= size;
    int value = (int)(reader->bits >> reader->n) & ((1 << size) - 1);
    return value >> (size - 1) ? value : value - (1 << size) + 1;
}

/* Read a block of zeros; return whether it could be read. */
static int read_block(Reader *reader, const int16_t *dc, const int16_t *ac, int last, int16_t *block) {
    int size = symbol(reader, dc);
    if (size < 0 || size > 15) return 0;
    int value = last + number(reader, size);
    if (abs(value) > MOST_MAGNITUDE) return 0;
    block[0] = (int16_t)value;
    for (int k = 1; k < BLOCK; k++) {
        int both = symbol(reader, ac);
        if (both < 0) return 0;
        size = both & 15;
        if (!size && both != RUN_OF_16) return both == 0;
        k += both >> 4;
        if (!size) continue;
        value = number(reader, size);
        if (k >= BLOCK || abs(value) > MOST_MAGNITUDE) return 0;
        block[k] = (int16_t)value;
    }
    return 1;
}

/* Go on behind a marker RSTm; return whether there is one. */
static int read_marker(Reader *reader, int *last) {
    int64_t at = reader->at;
    if (at + 1 >= reader->size || reader->bytes[at] != 0xFF || (reader->bytes[at + 1] & 0xF8) != 0xD0) return 0;
    *reader = (Reader){.bytes = reader->bytes, .size = reader->size, .at = at + 2};
    memset(last, 0, MOST_COMPONENTS * sizeof *last);
    return 1;
}

/* Read all blocks of a scan, which are zeros; return whether it is one, from its first byte to its last. */
API int archiver_jpeg_read_scan(const JpegScan *scan) {
    Reader reader = {.bytes = scan->bytes, .size = scan->size};
    int last[MOST_COMPONENTS] = {0};
    int16_t *block = scan->blocks;
    for (int64_t mcu = 0; mcu < scan->n_mcus; mcu++) {
        if (scan->restart && mcu && mcu % scan->restart == 0 && !read_marker(&reader, last)) return 0;
        for (int64_t i = 0; i < scan->n_of_mcu; i++, block += BLOCK) {
            int component = scan->of_mcu[i];
            const int16_t *dc = (const int16_t *)scan->dc + ((size_t)component << LONGEST);
            const int16_t *ac = (const int16_t *)scan->ac + ((size_t)component << LONGEST);
            if (!read_block(&reader, dc, ac, last[component], block)) return 0;
            last[component] = block[0];
        }
        if (reader.made_up * 8 > reader.n) return 0; /* of what was taken some was not there */
    }
    return reader.at == reader.size;
}

/* ---- writing ---- */

typedef struct {
    uint8_t *bytes;
    int64_t size, at; /* `at` counts on beyond `size`, where nothing is written */
    uint64_t bits;    /* the last `n` of them wait */
    int n;
} Writer;

INLINE void put_byte(Writer *writer, uint8_t byte) {
    if (writer->at < writer->size) writer->bytes[writer->at] = byte;
    writer->at++;
}

/* Append bits, at most 32. */
INLINE void put(Writer *writer, uint32_t value, int n) {
    writer->bits = writer->bits << n | (value & ((1ull << n) - 1));
    writer->n += n;
    while (writer->n >= 8) {
        writer->n -= 8;
        uint8_t byte = (uint8_t)(writer->bits >> writer->n);
        put_byte(writer, byte);
        if (byte == 0xFF) put_byte(writer, 0);
    }
}

/* Append the code of a symbol and a number of `size` bits; return whether there is one.
 *
 * A code is 32 times its bits, plus how many they are. */
INLINE int put_number(Writer *writer, int32_t code, int value, int size) {
    put(writer, (uint32_t)code >> 5, code & 31);
    put(writer, (uint32_t)(value > 0 ? value : value - 1), size);
    return (code & 31) > 0;
}

INLINE int category(int value) { return value ? 32 - __builtin_clz((unsigned)abs(value)) : 0; }

/* Write a block; return whether all it needs has a code.  Categories of AC beyond 15 have none. */
static int write_block(Writer *writer, const int16_t *block, int last, const int32_t *dc, const int32_t *ac) {
    int size = category(block[0] - last), run = 0;
    int good = put_number(writer, dc[size], block[0] - last, size);
    for (int k = 1; k < BLOCK; k++) {
        int value = block[k];
        if (!value) {
            run++;
            continue;
        }
        for (; run > 15; run -= 16) good &= put_number(writer, ac[RUN_OF_16], 0, 0);
        size = category(value);
        if (size > 15) return 0;
        good &= put_number(writer, ac[16 * run + size], value, size);
        run = 0;
    }
    return run ? good & put_number(writer, ac[0], 0, 0) : good;
}

static void pad_with_ones(Writer *writer) {
    if (writer->n) put(writer, 0x7F, 8 - writer->n);
}

/* Write a scan, padded with ones; return its size, 0 if a symbol has no code or if there is no room. */
API int64_t archiver_jpeg_write_scan(const JpegScan *scan) {
    Writer writer = {.bytes = scan->bytes, .size = scan->size};
    int last[MOST_COMPONENTS] = {0};
    const int16_t *block = scan->blocks;
    for (int64_t mcu = 0; mcu < scan->n_mcus; mcu++) {
        if (scan->restart && mcu && mcu % scan->restart == 0) {
            pad_with_ones(&writer);
            put_byte(&writer, 0xFF);
            put_byte(&writer, (uint8_t)(0xD0 + (mcu / scan->restart - 1) % 8));
            memset(last, 0, sizeof last);
        }
        for (int64_t i = 0; i < scan->n_of_mcu; i++, block += BLOCK) {
            int component = scan->of_mcu[i];
            const int32_t *dc = (const int32_t *)scan->dc + 256 * component;
            const int32_t *ac = (const int32_t *)scan->ac + 256 * component;
            if (!write_block(&writer, block, last[component], dc, ac)) return 0;
            last[component] = block[0];
        }
    }
    pad_with_ones(&writer);
    return writer.at > writer.size ? 0 : writer.at;
}
