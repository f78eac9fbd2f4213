/* To be preloaded: one allocation of the program fails, the FAIL_AT-th that its own code asks for (those of
 * libraries succeed). FAIL_FILE: gets a line when it has happened, so that who runs this knows when there are
 * no more. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uintptr_t program_start, program_end;
static long fail_at = -1;
static atomic_long asked;

static int find_program(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size;
    (void)unused;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X)) {
            program_start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            program_end = program_start + info->dlpi_phdr[i].p_memsz;
        }
    return 1; /* the first object is the program */
}

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("FAIL_AT");
    if (!text)
        return;
    dl_iterate_phdr(find_program, NULL);
    fail_at = atol(text);
}

static int fails(const void *caller) {
    uintptr_t address = (uintptr_t)caller;
    if (fail_at < 0 || address < program_start || address >= program_end ||
        atomic_fetch_add(&asked, 1) != fail_at)
        return 0;

    const char *path = getenv("FAIL_FILE");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (file >= 0) {
        if (write(file, "failed\n", 7) < 0)
            _exit(99);
        close(file);
    }
    errno = ENOMEM;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* dlsym may allocate before the real calloc is known. */
static void *early(size_t bytes) {
    static _Alignas(64) char memory[65536];
    static size_t used;
    void *result = memory + used;
    used += (bytes + 63) / 64 * 64;
    return used <= sizeof memory ? result : NULL;
}

#pragma GCC visibility push(default)

void *malloc(size_t bytes) {
    static __typeof__(&malloc) real;
    if (!real && !(real = REAL(malloc)))
        return NULL;
    return fails(__builtin_return_address(0)) ? NULL : real(bytes);
}

void *calloc(size_t count, size_t bytes) {
    static __typeof__(&calloc) real;
    static int looking;
    if (!real) {
        if (looking)
            return early(count * bytes);
        looking = 1;
        real = REAL(calloc);
    }
    return fails(__builtin_return_address(0)) ? NULL : real(count, bytes);
}

void *realloc(void *old, size_t bytes) {
    static __typeof__(&realloc) real;
    if (!real && !(real = REAL(realloc)))
        return NULL;
    return fails(__builtin_return_address(0)) ? NULL : real(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    static __typeof__(&aligned_alloc) real;
    if (!real && !(real = REAL(aligned_alloc)))
        return NULL;
    return fails(__builtin_return_address(0)) ? NULL : real(alignment, bytes);
}

char *strdup(const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = fails(__builtin_return_address(0)) ? NULL : malloc(bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

char *strndup(const char *text, size_t most) {
    size_t bytes = strnlen(text, most);
    char *copy = fails(__builtin_return_address(0)) ? NULL : malloc(bytes + 1);
    if (copy)
        *(char *)mempcpy(copy, text, bytes) = 0;
    return copy;
}
