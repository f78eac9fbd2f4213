#include "model/defaults.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "model/config.h"
#include "model/labels.h"
#include "model/preprocessing.h"
#include "onnx/onnx.h"

#define PATH_BYTES 4096
#define USUAL_SIDE 224

static void json_freep(json_t **json) {
    json_decref(*json);
}

static bool make_path(char ret[PATH_BYTES], const char *folder, const char *name, struct error *error) {
    int length = snprintf(ret, PATH_BYTES, "%s/%s", folder, name);
    return (length >= 0 && length < PATH_BYTES) ||
           error_set(error, ERROR_INVALID, "%s: the path is too long", folder);
}

/* The number of classes and the side of the input's images, as far as the network states them. */
static bool read_network(const char *path, int *ret_classes, int *ret_side, struct error *error) {
    struct graph *graph = onnx_graph_read(path, error);
    if (!graph)
        return false;

    if (graph->output_count > 0 && graph->outputs[0]->shape.rank == 2) {
        int64_t classes = graph->outputs[0]->shape.dims[1];
        if (classes > 0 && classes <= LIMIT_CLASSES)
            *ret_classes = (int)classes;
    }
    if (graph->input_count > 0 && graph->inputs[0]->shape.rank == 4) {
        int64_t side = graph->inputs[0]->shape.dims[3];
        if (side > 0 && side <= LIMIT_IMAGE_SIDE)
            *ret_side = (int)side;
    }

    graph_free(graph);
    return true;
}

static bool write_json(const char *path, const json_t *json, struct error *error) {
    cleanup(freep) char *text = json ? json_dumps(json, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) : NULL;
    if (!text)
        return error_set(error, ERROR_MEMORY, "%s: no memory", path);
    return file_write(path, text, strlen(text), error);
}

static bool is_imagenet(int classes) {
    return classes == IMAGENET_CLASSES || classes == IMAGENET_CLASSES + 1;
}

/* Add id2label to config.json where it has none; the file's other fields stay. A config.json that is damaged
 * is an error for every network. */
static bool write_labels(const char *path, int classes, bool *ret_written, struct error *error) {
    struct error failure = {0};
    cleanup(json_freep) json_t *config = config_read(path, JSON_OBJECT, &failure);
    if (!config && failure.code == ERROR_NOT_FOUND)
        config = json_object();
    if (!config) {
        *error = failure;
        return false;
    }
    if (!is_imagenet(classes) || json_object_size(json_object_get(config, "id2label")))
        return true;

    int background = classes - IMAGENET_CLASSES;
    json_t *labels = json_object();

    for (int i = 0; i < classes; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        const char *label = i < background ? "background" : imagenet_labels[i - background];
        json_object_set_new(labels, key, json_string(label));
    }
    json_object_set_new(config, "id2label", labels);

    *ret_written = write_json(path, config, error);
    return *ret_written;
}

static bool write_preprocessing(const char *path, int side, struct error *error) {
    struct preprocessing usual;
    preprocessing_default(side, side, &usual);

    const double *mean = usual.mean, *deviation = usual.standard_deviation;
    cleanup(json_freep) json_t *json =
        json_pack("{s:b, s:{s:i}, s:i, s:b, s:{s:i, s:i}, s:b, s:f, s:b, s:[fff], s:[fff]}", "do_resize",
                  usual.do_resize, "size", "shortest_edge", usual.resize_short, "resample", usual.filter,
                  "do_center_crop", usual.do_center_crop, "crop_size", "height", usual.crop_height, "width",
                  usual.crop_width, "do_rescale", usual.do_rescale, "rescale_factor", usual.rescale_factor,
                  "do_normalize", usual.do_normalize, "image_mean", mean[0], mean[1], mean[2], "image_std",
                  deviation[0], deviation[1], deviation[2]);

    return write_json(path, json, error);
}

bool model_defaults_write(const char *folder, struct model_defaults *ret, struct error *error) {
    char network[PATH_BYTES], config[PATH_BYTES], preprocessing[PATH_BYTES];
    struct model_defaults defaults = {0};
    int side = USUAL_SIDE;

    if (!make_path(network, folder, "model.onnx", error) ||
        !make_path(config, folder, "config.json", error) ||
        !make_path(preprocessing, folder, "preprocessor_config.json", error) ||
        !read_network(network, &defaults.class_count, &side, error) ||
        !write_labels(config, defaults.class_count, &defaults.labels, error))
        return false;

    if (is_imagenet(defaults.class_count) && access(preprocessing, F_OK) < 0) {
        if (!write_preprocessing(preprocessing, side, error))
            return false;
        defaults.preprocessing = true;
    }

    *ret = defaults;
    return true;
}
