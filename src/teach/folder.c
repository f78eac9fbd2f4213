#include "teach/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "onnx/onnx.h"

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory to write the model");
}

/* ---- Files of the folder ---- */

static bool write_bytes(const char *folder, const char *name, const char *bytes, size_t size,
                        struct error *error) {
    cleanup(freep) char *path = NULL;
    if (!bytes || asprintf(&path, "%s/%s", folder, name) < 0)
        return no_memory(error);
    return file_write(path, bytes, size, error);
}

static bool write_text(const char *folder, const char *name, const char *text, struct error *error) {
    return write_bytes(folder, name, text, text ? strlen(text) : 0, error);
}

/* Takes the reference. */
static bool write_json(const char *folder, const char *name, json_t *json, struct error *error) {
    cleanup(freep) char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
    json_decref(json);
    return write_text(folder, name, text, error);
}

/* `none`: the name of a class more, or NULL. */
static json_t *label_config(const struct teach_classes *classes, const char *none) {
    json_t *labels = json_object();
    for (int i = 0; labels && i < classes->count + (none != NULL); i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", i);
        json_t *name = json_string(i < classes->count ? classes->names[i] : none);
        if (!name) { /* not UTF-8 */
            json_decref(labels);
            return NULL;
        }
        json_object_set_new(labels, number, name);
    }
    return labels;
}

static bool write_config(const char *folder, const struct teach_classes *classes, const char *none,
                         struct error *error) {
    json_t *labels = label_config(classes, none);
    if (!labels)
        return error_set(error, ERROR_INVALID, "the name of a class is not UTF-8: rename its folder");
    return write_json(folder, "config.json",
                      json_pack("{s:[s], s:s, s:o}", "architectures", "GuichetTaught", "problem_type",
                                "single_label_classification", "id2label", labels),
                      error);
}

static json_t *size_config(int width, int height) {
    return json_pack("{s:i, s:i}", "height", height, "width", width);
}

/* The preprocessing as Hugging Face's image processors have it. */
static json_t *preprocessing_config(const struct preprocessing *config) {
    json_t *size = config->resize_short ? json_pack("{s:i}", "shortest_edge", config->resize_short)
                                        : size_config(config->resize_width, config->resize_height);
    json_t *root = json_pack(
        "{s:b, s:i, s:b, s:b, s:f, s:b, s:b, s:[f,f,f], s:[f,f,f], s:b, s:b}", "do_resize", config->do_resize,
        "resample", (int)config->filter, "do_center_crop", config->do_center_crop, "do_rescale",
        config->do_rescale, "rescale_factor", config->rescale_factor, "rescale_offset",
        config->rescale_offset != 0, "do_normalize", config->do_normalize, "image_mean", config->mean[0],
        config->mean[1], config->mean[2], "image_std", config->standard_deviation[0],
        config->standard_deviation[1], config->standard_deviation[2], "include_top", config->divide_again,
        "do_flip_channel_order", config->flip_channels);
    if (config->do_resize)
        json_object_set_new(root, "size", size);
    else
        json_decref(size);
    if (config->do_center_crop)
        json_object_set_new(root, "crop_size", size_config(config->crop_width, config->crop_height));
    return root;
}

static bool write_network(const char *folder, const struct teach_result *result, struct error *error) {
    cleanup(freep) char *path = NULL;
    if (asprintf(&path, "%s/model.onnx", folder) < 0)
        return no_memory(error);

    if (result->tuned)
        return onnx_graph_write(result->tuned, path, error);

    const struct teach_layer layer = {.weights = result->head.weights,
                                      .bias = result->head.bias,
                                      .classes = result->classes.count,
                                      .none = result->none.mean ? &result->none : NULL};
    struct graph *graph = teach_network_with_head(&result->network, &layer, error);
    bool done = graph && onnx_graph_write(graph, path, error);
    graph_free(graph);
    return done;
}

/* What was written is read as anybody would read it. */
static bool check_written(const struct model *base, const char *folder, const struct teach_result *result,
                          struct error *error) {
    const struct model_options options = {
        .engine = {.precision = engine_precision(model_engine(base)), .no_baked = true}};
    struct model *model = model_load(folder, &options, error);
    int classes = result->classes.count + (result->none.mean != NULL);
    bool done = model != NULL;
    if (done && model_class_count(model) != classes)
        done = error_set(error, ERROR_INTERNAL, "the model that was written has %d classes instead of %d",
                         model_class_count(model), classes);
    else if (done && !photo_input_equal(model_input(base), model_input(model)))
        done = error_set(error, ERROR_MODEL,
                         "%s prepares its photos in a way that preprocessor_config.json cannot express",
                         model_name(base));
    model_free(model);
    return done;
}

static bool write_all(const struct model *base, const struct teach_options *options, const char *folder,
                      const struct teach_result *result, struct error *error) {
    cleanup(freep) char *card = teach_card(base, options, result);
    return write_network(folder, result, error) &&
           write_config(folder, &result->classes, options->none, error) &&
           write_json(folder, "preprocessor_config.json",
                      preprocessing_config(&model_input(base)->preprocessing), error) &&
           write_text(folder, "README.md", card, error) &&
           write_json(folder, "taught.json", teach_report(base, options, result), error) &&
           check_written(base, folder, result, error);
}

/* ---- The folder ---- */

/* The folder and the files in it; a folder within it stays, and it with it. */
static void remove_folder(const char *path) {
    DIR *folder = opendir(path);
    if (!folder)
        return;

    for (const struct dirent *entry; (entry = readdir(folder));)
        unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    rmdir(path);
}

/* Was it made by us? Nothing else is replaced. */
static bool is_taught(const char *folder) {
    cleanup(freep) char *path = NULL;
    return asprintf(&path, "%s/taught.json", folder) >= 0 && access(path, F_OK) == 0;
}

bool teach_folder_check(const struct teach_options *options, struct error *error) {
    if (access(options->output, F_OK) < 0)
        return true;
    if (!options->replace)
        return error_set(error, ERROR_INVALID,
                         "%s exists already: choose another --output, or replace it with --force",
                         options->output);
    return is_taught(options->output) ||
           error_set(error, ERROR_INVALID,
                     "%s was not made by teach (it has no taught.json): it stays as it is", options->output);
}

/* "FOLDER/.NAME.XXXXXX" beside FOLDER/NAME. */
static char *staging_name(const char *output) {
    char *name;
    const char *slash = strrchr(output, '/');
    int folder = slash ? (int)(slash - output) + 1 : 0;
    return asprintf(&name, "%.*s.%s.XXXXXX", folder, output, output + folder) < 0 ? NULL : name;
}

static bool publish(const char *staging, const struct teach_options *options, struct error *error) {
    int folder = open(staging, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        fsync(folder);
        close(folder);
    }

    if (renameat2(AT_FDCWD, staging, AT_FDCWD, options->output, RENAME_NOREPLACE) == 0)
        return true;
    if (errno == EINVAL && access(options->output, F_OK) < 0 && rename(staging, options->output) == 0)
        return true; /* a file system without the flag */
    if (errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be created", options->output);
    if (!teach_folder_check(options, error))
        return false;
    if (renameat2(AT_FDCWD, staging, AT_FDCWD, options->output, RENAME_EXCHANGE) < 0)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be replaced", options->output);

    remove_folder(staging);
    return true;
}

bool teach_folder_write(const struct model *base, const struct teach_options *options,
                        const struct teach_result *result, struct error *error) {
    cleanup(freep) char *staging = staging_name(options->output);
    if (!staging)
        return no_memory(error);
    if (!mkdtemp(staging))
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be created", options->output);

    bool done = chmod(staging, 0755) == 0 && write_all(base, options, staging, result, error) &&
                publish(staging, options, error);
    if (!done)
        remove_folder(staging);
    return done;
}
