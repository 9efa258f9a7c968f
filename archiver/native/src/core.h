/* What every file of the core shares. */
#ifndef ARCHIVER_CORE_H
#define ARCHIVER_CORE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define API __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

#endif
