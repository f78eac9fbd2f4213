#include "model/language_files.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/limits.h"

#define ENDING ".gguf"
#define PART_ENDING "-00001-of-00003" /* its length: both numbers have five digits */
#define USUAL "Q4_K_M"
enum { USUAL_BITS = 4 };

bool language_file_is_named(const char *path) {
    size_t length = strlen(path), ending = strlen(ENDING);
    return length > ending && strcasecmp(path + length - ending, ENDING) == 0;
}

/* Five digits; -1 where they are none. */
static int part_number(const char *text) {
    int number = 0;
    for (int i = 0; i < 5; i++) {
        if (!isdigit((unsigned char)text[i]))
            return -1;
        number = number * 10 + (text[i] - '0');
    }
    return number;
}

/* Of a name without .gguf: does it end in "-00001-of-00003"? */
static bool read_part(const char *name, size_t length, int *ret_part, int *ret_parts) {
    size_t ending = strlen(PART_ENDING);
    if (length <= ending)
        return false;

    const char *at = name + length - ending;
    int part = part_number(at + 1), parts = part_number(at + 10);
    if (at[0] != '-' || memcmp(at + 6, "-of-", 4) != 0 || part < 1 || parts < part ||
        parts > LIMIT_GGUF_PARTS)
        return false;
    *ret_part = part;
    *ret_parts = parts;
    return true;
}

const char *language_file_stem(const char *path, size_t *ret_size) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t length = strlen(name);
    int part, parts;

    if (language_file_is_named(name))
        length -= strlen(ENDING);
    if (read_part(name, length, &part, &parts))
        length -= strlen(PART_ENDING);
    *ret_size = length;
    return name;
}

/* ---- Variants ---- */

/* Bits of a weight of a type that is called so: F16, BF16, Q4_K_M, IQ4_XS, TQ2_0, MXFP4 …; 0 where it is no
 * type's name. */
static int type_bits(const char *name, size_t length) {
    static const struct {
        const char *name;
        int bits;
    } whole[] = {{"F32", 32},  {"FP32", 32}, {"F16", 16},     {"FP16", 16},
                 {"BF16", 16}, {"MXFP4", 4}, {"MXFP4_MOE", 4}};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (strlen(whole[i].name) == length && strncasecmp(name, whole[i].name, length) == 0)
            return whole[i].bits;

    size_t letters = length && strchr("ITit", name[0]) ? 1 : 0;
    if (length < letters + 4 || toupper((unsigned char)name[letters]) != 'Q' ||
        !isdigit((unsigned char)name[letters + 1]) || name[letters + 2] != '_')
        return 0;
    for (size_t i = letters + 3; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '_')
            return 0;
    return name[letters + 1] - '0';
}

/* The end of the stem that names its type of weights; NULL where none does. */
static const char *find_type(const char *stem, size_t length, size_t *ret_length, int *ret_bits) {
    size_t start = length;
    while (start > 0 && stem[start - 1] != '-' && stem[start - 1] != '.')
        start--;

    *ret_bits = type_bits(stem + start, length - start);
    *ret_length = length - start;
    return *ret_bits ? stem + start : NULL;
}

static void name_variant(struct language_file *file, const char *name, size_t length) {
    file->variant[0] = 0;
    if (length > MODEL_NAME_PART)
        return;
    memcpy(file->variant, name, length);
    file->variant[length] = 0;
    if (!model_folder_name_valid(file->variant))
        file->variant[0] = 0;
}

static void read_variant(struct language_file *file) {
    size_t stem_length, length;
    const char *stem = language_file_stem(file->path, &stem_length),
               *type = find_type(stem, stem_length, &length, &file->bits);
    if (!type) {
        name_variant(file, stem, stem_length);
        return;
    }

    name_variant(file, type, length);
    for (char *c = file->variant; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    if (strncmp(file->variant, "FP", 2) == 0)
        memmove(file->variant + 1, file->variant + 2, strlen(file->variant + 2) + 1);
}

/* ---- Lists ---- */

void language_files_release(struct language_files *list) {
    for (size_t i = 0; i < list->count; i++)
        free(list->files[i].path);
    free(list->files);
    *list = (struct language_files){0};
}

/* The path of the first part, where `path` is any of them. NULL when memory is out. */
static char *first_part(const char *path, int parts) {
    char *first = strdup(path);
    if (first && parts > 1) {
        char *number = first + strlen(first) - strlen(PART_ENDING ENDING) + 1;
        memset(number, '0', 4);
        number[4] = '1';
    }
    return first;
}

bool language_files_add(struct language_files *list, const char *path, uint64_t bytes) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    int part = 1, parts = 1;
    if (!language_file_is_named(name) || name[0] == '.' || strncasecmp(name, "mmproj", 6) == 0)
        return true;
    read_part(name, strlen(name) - strlen(ENDING), &part, &parts);

    char *first = first_part(path, parts);
    if (!first)
        return false;
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->files[i].path, first) == 0) {
            list->files[i].bytes += bytes;
            list->files[i].parts_found++;
            free(first);
            return true;
        }

    struct language_file *files = realloc(list->files, (list->count + 1) * sizeof *files);
    if (!files) {
        free(first);
        return false;
    }
    list->files = files;
    files[list->count] =
        (struct language_file){.path = first, .bytes = bytes, .parts = parts, .parts_found = 1};
    read_variant(&files[list->count++]);
    return true;
}

static int compare_files(const void *a, const void *b) {
    const struct language_file *x = a, *y = b;
    int order = strcmp(x->variant, y->variant);
    return order ? order : strcmp(x->path, y->path);
}

void language_files_settle(struct language_files *list) {
    if (list->count < 2)
        return;
    qsort(list->files, list->count, sizeof *list->files, compare_files);

    for (size_t i = 0, end; i < list->count; i = end) {
        char shared[sizeof list->files[i].variant];
        strcpy(shared, list->files[i].variant);
        for (end = i + 1; end < list->count && strcmp(list->files[end].variant, shared) == 0;)
            end++;

        for (size_t j = i; end > i + 1 && j < end; j++) {
            size_t length;
            const char *stem = language_file_stem(list->files[j].path, &length);
            name_variant(&list->files[j], stem, length);
        }
    }
    qsort(list->files, list->count, sizeof *list->files, compare_files);
}

const struct language_file *language_files_find(const struct language_files *list, const char *variant) {
    for (size_t i = 0; i < list->count; i++)
        if (list->files[i].variant[0] && strcasecmp(list->files[i].variant, variant) == 0)
            return &list->files[i];

    for (size_t i = 0; i < list->count; i++) {
        size_t length;
        const char *stem = language_file_stem(list->files[i].path, &length);
        if (strlen(variant) == length && strncasecmp(stem, variant, length) == 0)
            return &list->files[i];
    }
    return NULL;
}

const struct language_file *language_files_default(const struct language_files *list) {
    const struct language_file *smallest = NULL, *largest = NULL;
    for (size_t i = 0; i < list->count; i++) {
        const struct language_file *file = &list->files[i];
        if (strcmp(file->variant, USUAL) == 0)
            return file;
        if (file->bits >= USUAL_BITS && (!smallest || file->bytes < smallest->bytes))
            smallest = file;
        if (!largest || file->bytes > largest->bytes)
            largest = file;
    }
    return smallest ? smallest : largest;
}

void language_files_name(const struct language_files *list, char *ret, size_t size) {
    size_t used = 0;
    ret[0] = 0;
    for (size_t i = 0; i < list->count && used + 4 < size; i++) {
        size_t length;
        const struct language_file *file = &list->files[i];
        const char *stem = language_file_stem(file->path, &length);
        int written = file->variant[0]
                          ? snprintf(ret + used, size - used, "%s%s", used ? ", " : "", file->variant)
                          : snprintf(ret + used, size - used, "%s%.*s", used ? ", " : "", (int)length, stem);
        used += written > 0 ? (size_t)written : 0;
    }
}
