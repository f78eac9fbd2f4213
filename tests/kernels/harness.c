#include "harness.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 16
#define SLOT_BYTES ((size_t)2 << 20)
#define CANARY 0xc5
#define CANARY_BYTES 256

/* One piece of guarded memory: [start, start + SLOT_BYTES) between two pages without access. */
struct slot {
    unsigned char *start, *data;
    size_t bytes;
    bool is_input;
    uint64_t sum; /* of an input when it was sealed */
};

static struct slot slots[SLOTS];
static int slots_taken;

static uint64_t seed, state; /* of the program; of the sequence */
static int subtest_number, team;
static const char *subtest_name = "";
static char description[512];
static jmp_buf subtest_end;

/* --- Random numbers ------------------------------------------------------------------------------------- */

/* Splitmix (Steele, Lea and Flood, 2014). */
uint64_t random_bits(void) {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int64_t random_between(int64_t low, int64_t high) {
    return low + (int64_t)(random_bits() % (uint64_t)(high - low + 1));
}

bool random_chance(int percent) {
    return random_between(0, 99) < percent;
}

int64_t random_extent(int64_t most) {
    static const int16_t extents[] = {1,  2,  3,  5,  6,  7,   8,   9,   15,  16,  17,  31,   32,
                                      33, 47, 63, 64, 65, 127, 129, 255, 257, 511, 513, 1000, 1025};
    int count = 0;

    while (count < (int)(sizeof extents / sizeof extents[0]) && extents[count] <= most)
        count++;
    return extents[random_between(0, count - 1)];
}

float random_float(float size) {
    float value = size * ((float)(random_bits() >> 40) * 0x1p-23f - 1);
    int64_t kind = random_between(0, 63);

    return kind == 0 ? 0 : kind == 1 ? -0.0f : kind == 2 ? value * 1e-30f : value;
}

void random_fill(enum dtype dtype, void *data, int64_t count, float size) {
    for (int64_t i = 0; i < count; i++)
        switch (dtype) {
        case DTYPE_F32:
            ((float *)data)[i] = random_float(size);
            break;
        case DTYPE_BF16:
            ((uint16_t *)data)[i] = f32_to_bf16(random_float(size));
            break;
        default:
            ((uint8_t *)data)[i] = (uint8_t)random_bits();
            break;
        }
}

/* --- Guarded memory ------------------------------------------------------------------------------------- */

static void slots_create(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    for (int i = 0; i < SLOTS; i++) {
        unsigned char *memory =
            mmap(NULL, SLOT_BYTES + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory + page, SLOT_BYTES, PROT_READ | PROT_WRITE) != 0) {
            printf("Bail out! no guarded memory\n");
            exit(1);
        }
        slots[i].start = memory + page;
    }
}

/* Canaries before the data and after it, as far as the slot reaches. */
static void slot_canaries(const struct slot *slot, unsigned char **ret_before, size_t *ret_before_bytes,
                          size_t *ret_after_bytes) {
    size_t before = (size_t)(slot->data - slot->start), after = SLOT_BYTES - before - slot->bytes;

    *ret_before_bytes = before < CANARY_BYTES ? before : CANARY_BYTES;
    *ret_before = slot->data - *ret_before_bytes;
    *ret_after_bytes = after < CANARY_BYTES ? after : CANARY_BYTES;
}

/* At the end of the slot, or near its start and only just aligned. */
static void *slot_take(size_t bytes, size_t alignment, bool is_input) {
    struct slot *slot = &slots[slots_taken++];
    if (slots_taken > SLOTS || bytes > SLOT_BYTES - 16 * alignment)
        case_fail("the test needs more guarded memory");

    size_t room = (bytes + alignment - 1) / alignment * alignment;
    slot->data = random_chance(50) ? slot->start + SLOT_BYTES - room
                                   : slot->start + alignment * (size_t)random_between(0, 15);
    slot->bytes = bytes;
    slot->is_input = is_input;

    unsigned char *before;
    size_t before_bytes, after_bytes;
    slot_canaries(slot, &before, &before_bytes, &after_bytes);
    memset(before, CANARY, before_bytes);
    memset(slot->data + bytes, CANARY, after_bytes);
    return slot->data;
}

void *input_take(size_t bytes, size_t alignment) {
    return slot_take(bytes, alignment, true);
}

void *output_take(size_t bytes, size_t alignment) {
    unsigned char *data = slot_take(bytes, alignment, false);

    for (size_t i = 0; i < bytes; i++)
        data[i] = (unsigned char)random_bits();
    return data;
}

void *expected_take(const void *output, size_t bytes) {
    return memcpy(slot_take(bytes, 64, false), output, bytes);
}

static uint64_t slot_sum(const struct slot *slot) {
    uint64_t sum = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < slot->bytes; i++)
        sum = (sum ^ slot->data[i]) * 1099511628211u;
    return sum;
}

void case_seal(void) {
    for (int i = 0; i < slots_taken; i++)
        if (slots[i].is_input)
            slots[i].sum = slot_sum(&slots[i]);
}

static void canaries_check(const unsigned char *canaries, size_t count, const char *side, int index) {
    for (size_t i = 0; i < count; i++)
        if (canaries[i] != CANARY)
            case_fail("tensor %d: the kernel wrote %s it", index, side);
}

void case_check(void) {
    for (int i = 0; i < slots_taken; i++) {
        unsigned char *before;
        size_t before_bytes, after_bytes;

        slot_canaries(&slots[i], &before, &before_bytes, &after_bytes);
        canaries_check(before, before_bytes, "before", i);
        canaries_check(slots[i].data + slots[i].bytes, after_bytes, "after", i);
        if (slots[i].is_input && slots[i].sum != slot_sum(&slots[i]))
            case_fail("tensor %d: the kernel changed its input", i);
    }
}

/* --- Cases ---------------------------------------------------------------------------------------------- */

int case_count(int usual) {
#ifdef __SANITIZE_THREAD__
    return usual / 6;
#else
    return usual;
#endif
}

void case_begin(const char *format, ...) {
#ifdef __SANITIZE_THREAD__
    team = 1;
#else
    static const int teams[] = {1, 1, 2, 3, 5};
    team = teams[random_between(0, 4)];
#endif
    omp_set_num_threads(team);
    slots_taken = 0;

    va_list arguments;
    va_start(arguments, format);
    vsnprintf(description, sizeof description, format, arguments);
    va_end(arguments);
}

int case_threads(void) {
    return team;
}

void case_fail(const char *format, ...) {
    char what[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    printf("not ok %d - %s\n# %s: %s, %d threads: %s\n# seed %llu\n", subtest_number, subtest_name,
           subtest_name, description, team, what, (unsigned long long)seed);
    fflush(stdout);
    longjmp(subtest_end, 1);
}

void expect_bytes(const void *actual, const void *expected, size_t bytes, size_t unit) {
    if (memcmp(actual, expected, bytes) == 0)
        return;

    const unsigned char *a = actual, *b = expected;
    size_t i = 0;
    while (a[i] == b[i])
        i++;

    uint64_t left = 0, right = 0;
    size_t start = i / unit * unit, count = unit < sizeof left ? unit : sizeof left;
    memcpy(&left, a + start, count);
    memcpy(&right, b + start, count);
    case_fail("element %zu of %zu is %#llx, not %#llx", i / unit, bytes / unit, (unsigned long long)left,
              (unsigned long long)right);
}

void expect_near(int64_t index, double actual, double expected, double tolerance) {
    if (actual == expected || (isnan(actual) && isnan(expected)))
        return;
    if (!(fabs(actual - expected) <= tolerance))
        case_fail("element %lld is %.9g, not %.9g: off by %.3g, and %.3g is allowed", (long long)index,
                  actual, expected, fabs(actual - expected), tolerance);
}

double element_get(enum dtype dtype, const void *data, int64_t index) {
    switch (dtype) {
    case DTYPE_F32:
        return ((const float *)data)[index];
    case DTYPE_BF16:
        return bf16_to_f32(((const uint16_t *)data)[index]);
    case DTYPE_U8:
        return ((const uint8_t *)data)[index];
    default:
        return ((const int8_t *)data)[index];
    }
}

/* --- The program ---------------------------------------------------------------------------------------- */

/* A kernel went over the edge: say where, and end. Any thread of the team may be here. */
static void crashed(int number) {
    static const char *const names[] = {
        [SIGSEGV] = "SIGSEGV", [SIGBUS] = "SIGBUS", [SIGILL] = "SIGILL", [SIGFPE] = "SIGFPE"};
    char text[2048];
    int length = snprintf(
        text, sizeof text, "not ok %d - %s\n# %s: %s, %d threads: ended by %s\n# seed %llu\n", subtest_number,
        subtest_name, subtest_name, description, team, names[number], (unsigned long long)seed);

    if (length > 0 && write(STDOUT_FILENO, text, (size_t)length) < 0)
        _exit(2);
    _exit(1);
}

static void catch_crashes(void) {
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction action = {.sa_handler = crashed, .sa_flags = SA_RESETHAND};

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaction(numbers[i], &action, NULL);
}

/* Whether the arguments name the test, or nothing. */
static bool is_wanted(const char *name, int argc, char **argv) {
    bool any = argc < 2;
    for (int i = 1; i < argc && !any; i++)
        any = strncmp(name, argv[i], strlen(argv[i])) == 0;
    return any;
}

static bool run_subtest(const struct kernel_test *test) {
    subtest_name = test->name;
    state = seed;
    for (const char *c = test->name; *c; c++)
        state = (state ^ (uint64_t)(unsigned char)*c) * 1099511628211u;

    if (setjmp(subtest_end))
        return false;
    test->run();
    printf("ok %d - %s\n", subtest_number, test->name);
    fflush(stdout);
    return true;
}

/* KERNELS_LEVEL: of x86-64, that the kernels of this program are compiled for; none: as in the product. */
static bool processor_suits(void) {
#if KERNELS_LEVEL == 4
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#elif KERNELS_LEVEL == 3
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return true;
#endif
}

/* [PREFIX...]: the subtests to run, all by default. KERNELS_SEED=NUMBER repeats a run. */
int main(int argc, char **argv) {
    const char *given = getenv("KERNELS_SEED");
    struct timespec now;
    int failed = 0, total = 0;

    if (!processor_suits()) {
        printf("1..0 # SKIP this processor does not have the instructions\n");
        return 0;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    slots_create();
    catch_crashes();

    for (int i = 0; kernel_test_lists[i]; i++)
        for (const struct kernel_test *test = kernel_test_lists[i]; test->name; test++)
            total += is_wanted(test->name, argc, argv);
    printf("1..%d\n# seed %llu (repeat with KERNELS_SEED)\n", total, (unsigned long long)seed);
    for (int i = 0; kernel_test_lists[i]; i++)
        for (const struct kernel_test *test = kernel_test_lists[i]; test->name; test++)
            if (is_wanted(test->name, argc, argv)) {
                subtest_number++;
                failed += !run_subtest(test);
            }
    return failed > 0;
}
