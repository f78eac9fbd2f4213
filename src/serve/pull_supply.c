#include "serve/pull_supply.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "model/labels.h"
#include "onnx/onnx.h"

#define USUAL_SIDE 224
#define USUAL_CROP 0.875 /* of the resized photo's shorter side */

static void json_freep(json_t **json) {
    json_decref(*json);
}

static bool path_join(char *ret, size_t size, const char *folder, const char *name, struct error *error) {
    int length = snprintf(ret, size, "%s/%s", folder, name);
    return (length >= 0 && (size_t)length < size) ||
           error_set(error, ERROR_INVALID, "%s: too long a path", folder);
}

/* Classes and the side of the photos, as far as the file says. */
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
    cleanup(freep) char *text = json_dumps(json, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    if (!text)
        return error_set(error, ERROR_MEMORY, "%s: no memory", path);
    return file_write(path, text, strlen(text), error);
}

/* config.json as it came, or an empty one. NULL: it is there and is no JSON object. */
static json_t *read_config(const char *path, struct error *error) {
    struct error missing = {0};
    size_t size;
    cleanup(freep) char *text = file_read(path, LIMIT_CONFIG_BYTES, &size, &missing);
    if (!text && missing.code == ERROR_NOT_FOUND)
        return json_object();
    json_error_t at;
    json_t *config = text ? json_loadb(text, size, 0, &at) : NULL;
    if (json_is_object(config))
        return config;
    json_decref(config);
    error_set(error, ERROR_MODEL, "%s: not a JSON object", path);
    return NULL;
}

static bool supply_labels(const char *path, int classes, bool *ret_supplied, struct error *error) {
    cleanup(json_freep) json_t *config = read_config(path, error);
    if (!config)
        return false;
    int background = classes - IMAGENET_CLASSES;
    if (json_object_size(json_object_get(config, "id2label")) || background < 0 || background > 1)
        return true;
    json_t *labels = json_object();
    for (int i = 0; i < classes; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        const char *label = i < background ? "background" : imagenet_labels[i - background];
        json_object_set_new(labels, key, json_string(label));
    }
    json_object_set_new(config, "id2label", labels);
    *ret_supplied = true;
    return write_json(path, config, error);
}

static bool supply_recipe(const char *path, int side, struct error *error) {
    json_t *recipe =
        json_pack("{s:b, s:{s:i}, s:i, s:b, s:{s:i, s:i}, s:b, s:f, s:b, s:[fff], s:[fff]}", "do_resize", 1,
                  "size", "shortest_edge", (int)(side / USUAL_CROP + 0.5), "resample", 2, "do_center_crop", 1,
                  "crop_size", "height", side, "width", side, "do_rescale", 1, "rescale_factor", 1 / 255.0,
                  "do_normalize", 1, "image_mean", 0.485, 0.456, 0.406, "image_std", 0.229, 0.224, 0.225);
    bool done =
        recipe ? write_json(path, recipe, error) : error_set(error, ERROR_MEMORY, "%s: no memory", path);
    json_decref(recipe);
    return done;
}

bool pull_supply(const char *folder, struct pull_supplied *ret, struct error *error) {
    char network[4096], config[4096], recipe[4096];
    int side = USUAL_SIDE;
    struct pull_supplied supplied = {0};
    if (!path_join(network, sizeof network, folder, "model.onnx", error) ||
        !path_join(config, sizeof config, folder, "config.json", error) ||
        !path_join(recipe, sizeof recipe, folder, "preprocessor_config.json", error) ||
        !read_network(network, &supplied.classes, &side, error) ||
        !supply_labels(config, supplied.classes, &supplied.labels, error))
        return false;
    bool imagenet = supplied.classes == IMAGENET_CLASSES || supplied.classes == IMAGENET_CLASSES + 1;
    if (imagenet && access(recipe, F_OK) < 0) {
        if (!supply_recipe(recipe, side, error))
            return false;
        supplied.recipe = true;
    }
    *ret = supplied;
    return true;
}
