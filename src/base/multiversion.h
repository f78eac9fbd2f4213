/* MULTIVERSION before a function compiles it for AVX-512, for AVX2 and for plain x86-64, and the one that the
 * processor has is chosen when the program starts. The loops inside are written for the vectoriser.
 * Elsewhere, and under sanitizers (which cannot run before the choice is made), there is one version. */
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__) && defined(__OPTIMIZE__)
#define MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MULTIVERSION
#endif
