/* `cleanup(f) T *x = …;` calls f(&x) when x leaves its scope; steal_pointer(&x) returns x and sets it
 * to NULL, so that f has nothing to free. */
#pragma once
#include <stdlib.h>

#define cleanup(function) __attribute__((cleanup(function)))

/* Define `name_freep(type **)`, the shape that cleanup() wants, from a destructor `name_free(type *)` that
 * takes NULL. */
#define DEFINE_FREEP(type, name)                      \
    static inline void name##_freep(type **pointer) { \
        name##_free(*pointer);                        \
    }

static inline void freep(void *pointer) {
    free(*(void **)pointer);
}

#define steal_pointer(pointer)                      \
    ({                                              \
        __typeof__(*(pointer)) taken_ = *(pointer); \
        *(pointer) = NULL;                          \
        taken_;                                     \
    })
