#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "model/folder.h"
#include "model/internal.h"
#include "model/recipe.h"
#include "plan/plan.h"

enum { USUAL_SIDE = 224 }; /* of a photo, where the network takes any */

/* The one input: [n, 3, h, w] or [n, h, w, 3]. */
static bool input_understand(struct model *model, struct error *error) {
    char text[SHAPE_TEXT];
    if (engine_input_count(model->engine) != 1)
        return error_set(error, ERROR_MODEL, "%s: an image classifier has one input, this network has %d",
                         model->path, engine_input_count(model->engine));
    const struct engine_port *input = engine_input(model->engine, 0);
    const int64_t *dims = input->shape.dims;
    bool first = input->shape.rank == 4 && (dims[1] == 3 || (dims[1] < 0 && dims[3] != 3));
    bool last = input->shape.rank == 4 && !first && dims[3] == 3;
    if (!first && !last)
        return error_set(error, ERROR_MODEL, "%s: input '%s' is %s; a photo needs [n, 3, height, width]",
                         model->path, input->name, shape_format(&input->shape, text, sizeof text));
    if (!dtype_is_float(input->dtype) && input->dtype != DTYPE_U8)
        return error_set(error, ERROR_MODEL, "%s: input '%s' takes %s; a photo needs a float type or uint8",
                         model->path, input->name, dtype_name(input->dtype));
    model->input_dtype = input->dtype;
    model->channels_last = last;
    model->batch = dims[0];
    model->height = dims[last ? 1 : 2];
    model->width = dims[last ? 2 : 3];
    return true;
}

/* Classes of an output of shape [n, classes], with ones behind them perhaps; -1 where it may be one but a
 * part of it is free, 0 where it cannot be. */
static int output_classes(const struct shape *shape, enum dtype dtype) {
    bool known = shape->rank >= 0;
    if ((dtype != DTYPE_UNKNOWN && !dtype_is_float(dtype)) || shape->rank == 0 || shape->rank == 1)
        return 0;
    for (int i = 1; i < shape->rank; i++) {
        if (i > 1 && shape->dims[i] >= 0 && shape->dims[i] != 1)
            return 0;
        known = known && shape->dims[i] >= 0;
    }
    if (!known)
        return -1;
    return shape->dims[1] <= LIMIT_CLASSES ? (int)shape->dims[1] : 0;
}

/* The output called "logits", else the first that has classes, else the first that may have. */
static bool output_understand(struct model *model, int *ret_classes, struct error *error) {
    int best = 0;
    for (int i = 0; i < engine_output_count(model->engine); i++) {
        const struct engine_port *output = engine_output(model->engine, i);
        int classes = output_classes(&output->shape, output->dtype);
        int rank = classes == 0 ? 0 : strcmp(output->name, "logits") == 0 ? 3 : classes > 0 ? 2 : 1;
        if (rank <= best)
            continue;
        best = rank;
        model->output = i;
        *ret_classes = classes;
    }
    return best || error_set(error, ERROR_MODEL, "%s: no output has the shape [n, classes] of a classifier",
                             model->path);
}

/* The recipe's output must be what the input takes; where the recipe keeps the photo's aspect, a crop makes
 * it so. */
static bool recipe_fit(struct model *model, const char *path, struct error *error) {
    struct image_recipe *recipe = &model->recipe;
    if (model->input_dtype == DTYPE_U8 && (recipe->do_rescale || recipe->do_normalize))
        return error_set(error, ERROR_MODEL, "%s: '%s' makes fractions, and the network takes uint8", path,
                         recipe->do_rescale ? "do_rescale" : "do_normalize");
    if (model->height < 1 || model->width < 1)
        return true;
    if (!recipe->do_center_crop && (!recipe->do_resize || recipe->resize_short > 0)) {
        recipe->do_center_crop = true;
        recipe->crop_width = (int)model->width;
        recipe->crop_height = (int)model->height;
    }
    int width, height;
    image_recipe_size(recipe, 1, 1, &width, &height);
    if (width == model->width && height == model->height)
        return true;
    return error_set(error, ERROR_MODEL, "%s: '%s' gives %dx%d pixels, and the network takes %lldx%lld", path,
                     recipe->do_center_crop ? "crop_size" : "size", width, height, (long long)model->width,
                     (long long)model->height);
}

static bool recipe_load(struct model *model, const char *folder, struct error *error) {
    const char *path = arena_printf(model->arena, "%s/preprocessor_config.json", folder);
    if (!path)
        return error_set(error, ERROR_MEMORY, "no memory for a model");
    if (recipe_read(path, &model->recipe, error))
        return recipe_fit(model, path, error);
    if (error->code != ERROR_NOT_FOUND)
        return false;
    if (model->height > LIMIT_IMAGE_SIDE || model->width > LIMIT_IMAGE_SIDE)
        return error_set(error, ERROR_MODEL, "%s: the input is larger than any photo", model->path);
    recipe_default(model->width > 0 ? (int)model->width : USUAL_SIDE,
                   model->height > 0 ? (int)model->height : USUAL_SIDE, &model->recipe);
    /* A network that takes bytes makes numbers of them itself. */
    model->recipe.do_rescale = model->recipe.do_normalize = model->input_dtype != DTYPE_U8;
    return true;
}

/* A network whose shapes are computed says how many classes it has once it is planned for a photo. The engine
 * keeps the plan: the first photo would have needed it. */
static bool classes_plan(struct model *model, int *ret_classes, struct error *error) {
    int width, height;
    image_recipe_size(&model->recipe, USUAL_SIDE, USUAL_SIDE, &width, &height);
    struct tensor input = model_input_tensor(model, model->batch > 0 ? model->batch : 1, height, width, NULL);
    struct engine_context *context = engine_context_create(model->engine, error);
    bool done = context && engine_prepare(context, &input, 1, error);
    if (done) {
        const struct plan_tensor *output = engine_context_plan(context)->outputs[model->output];
        char text[SHAPE_TEXT];
        *ret_classes = output_classes(&output->shape, output->dtype);
        done = *ret_classes > 0 ||
               error_set(error, ERROR_MODEL, "%s: its output is %s; a classifier's is [n, classes]",
                         model->path, shape_format(&output->shape, text, sizeof text));
    } else {
        error_prefix(error, "%s", model->path);
    }
    engine_context_free(context);
    return done;
}

static bool model_understand(struct model *model, const char *folder, struct error *error) {
    int classes = 0;
    return input_understand(model, error) && output_understand(model, &classes, error) &&
           recipe_load(model, folder, error) && (classes >= 0 || classes_plan(model, &classes, error)) &&
           labels_load(folder, classes, model->arena, &model->labels, error);
}

struct model *model_load(const char *path, const struct model_options *options, struct error *error) {
    struct model_files files;
    if (!model_files_find(path, options->variant, &files, error))
        return NULL;
    struct model *model = calloc(1, sizeof *model);
    bool done = model && (model->arena = arena_create());
    if (done) {
        model->name = steal_pointer(&files.name);
        model->path = steal_pointer(&files.network);
        model->engine = engine_load(model->path, &options->engine, error);
        done = model->engine && model_understand(model, files.folder, error);
    } else {
        error_set(error, ERROR_MEMORY, "%s: no memory for a model", path);
    }
    model_files_release(&files);
    if (done)
        return model;
    model_free(model);
    return NULL;
}

void model_free(struct model *model) {
    if (!model)
        return;
    engine_free(model->engine);
    arena_free(model->arena);
    free(model->name);
    free(model->path);
    free(model);
}

const char *model_name(const struct model *model) {
    return model->name;
}

const char *model_path(const struct model *model) {
    return model->path;
}

struct engine *model_engine(const struct model *model) {
    return model->engine;
}

const struct image_recipe *model_recipe(const struct model *model) {
    return &model->recipe;
}

int model_output(const struct model *model) {
    return model->output;
}

int model_class_count(const struct model *model) {
    return model->labels.count;
}

const char *model_label(const struct model *model, int index, const char *language) {
    for (int i = 0; language && i < model->labels.language_count; i++)
        if (strcmp(model->labels.languages[i].code, language) == 0 && model->labels.languages[i].names[index])
            return model->labels.languages[i].names[index];
    return model->labels.names[index];
}

int model_class_find(const struct model *model, const char *name) {
    return labels_find(&model->labels, name);
}
