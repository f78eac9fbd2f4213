/* MULTIVERSION before a function compiles it for AVX-512, AVX2 and plain x86-64; the version for the
 * processor is chosen when the program starts. The loops inside are written for the vectoriser. On other
 * processors, and under sanitizers (which cannot run before the choice is made), there is one version; also
 * where SINGLE_VERSION is defined: tests/kernels compiles each version by itself. */
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__) && defined(__OPTIMIZE__) && !defined(SINGLE_VERSION)
#define MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MULTIVERSION
#endif
