/* The folders of models: which models there are, and which of them have changed. On the supervisor's thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "model/directory.h"
#include "server/supervisor/supervisor_private.h"

#define LOOK_NS SECOND_NS

struct supervised *supervisor_find(struct supervisor *supervisor, const char *name) {
    for (size_t i = 0; i < supervisor->model_count; i++)
        if (strcmp(supervisor->models[i]->name, name) == 0)
            return supervisor->models[i];
    return NULL;
}

static void model_add(struct supervisor *supervisor, const char *name, char *path, uint64_t bytes,
                      const struct model_folder *folder) {
    struct supervised *model = calloc(1, sizeof *model);

    pthread_mutex_lock(&supervisor->lock);
    struct supervised **models =
        model ? realloc(supervisor->models, (supervisor->model_count + 1) * sizeof *models) : NULL;

    if (models) {
        supervisor->models = models;
        models[supervisor->model_count++] = model;
        text_copy(model->name, sizeof model->name, name);
        model->path = path;
        model->bytes = (int64_t)bytes;
        if (folder->kind == MODEL_LANGUAGE)
            text_copy(model->meaning.kind, sizeof model->meaning.kind, "language");
        const char *own = strrchr(folder->path, '/') + 1;
        if (strcmp(own, folder->name) != 0)
            snprintf(model->reason, sizeof model->reason, "its folder is called \"%.200s\"", own);
        model->folder = strdup(folder->path);
        model->stamp = model->stamp_seen = folder->stamp;
        model->present = true;
        model->out_of_service = supervisor->options->explicit_control && supervisor->looked;
        model->current.output = model->next.output = -1;
    }
    pthread_mutex_unlock(&supervisor->lock);

    if (!models || !gateway_model_add(supervisor->gateway, name)) {
        log_line("guichet: model \"%s\": out of memory", name);
        if (!models) {
            free(model);
            free(path);
        }
    }
}

/* Whether a new version may take the place of the one that serves: not before somebody asks for it, where
 * models are controlled by loading them. */
static bool may_take(const struct supervisor *supervisor, const struct supervised *model) {
    return !supervisor->options->explicit_control || model->asked ||
           (model->state != MODEL_READY && model->state != MODEL_STARTING);
}

static void model_seen(struct supervisor *supervisor, const char *name, char *path, uint64_t bytes,
                       const struct model_folder *folder) {
    struct supervised *model = supervisor_find(supervisor, name);

    if (!model) {
        model_add(supervisor, name, path, bytes, folder);
        return;
    }

    bool first = !model->present; /* of two folders of one name, the first counts */
    model->present = true;

    if (first && strcmp(model->path, path) == 0) {
        bool settled = folder->stamp == model->stamp_seen;
        model->stamp_seen = folder->stamp;
        if (folder->stamp == model->stamp)
            model->unsettled_ns = 0;
        else if (!model->unsettled_ns)
            model->unsettled_ns = clock_ns();

        if (folder->stamp != model->stamp && (settled || model->asked) && may_take(supervisor, model)) {
            model->stamp = folder->stamp;
            model->unsettled_ns = 0;
            pthread_mutex_lock(&supervisor->lock);
            model->bytes = (int64_t)bytes;
            pthread_mutex_unlock(&supervisor->lock);
            supervised_reload(supervisor, model);
        }
    }
    free(path);
}

static void folder_seen(struct supervisor *supervisor, const struct model_folder *folder) {
    char name[sizeof((struct supervised *)0)->name];

    for (size_t v = 0; v <= folder->variant_count; v++) {
        const char *variant = v ? folder->variants[v - 1].name : NULL;
        char *path = NULL;
        int length =
            snprintf(name, sizeof name, "%s%s%s", folder->name, variant ? ":" : "", variant ? variant : "");
        if (length >= (int)sizeof name || !model_name_valid(name, (size_t)length) ||
            asprintf(&path, "%s%s%s", folder->path, variant ? ":" : "", variant ? variant : "") < 0)
            continue;

        model_seen(supervisor, name, path, v ? folder->variants[v - 1].bytes : folder->bytes, folder);
    }
}

static void models_gone_remove(struct supervisor *supervisor) {
    for (size_t i = supervisor->model_count; i-- > 0;) {
        struct supervised *model = supervisor->models[i];
        if (model->present)
            continue;

        log_line("guichet: %s was removed", model->name);
        gateway_model_remove(supervisor->gateway, model->name);
        process_leave(supervisor, &model->current);
        process_leave(supervisor, &model->next);

        pthread_mutex_lock(&supervisor->lock);
        metrics_merge_forget(supervisor->metrics, model);
        memmove(&supervisor->models[i], &supervisor->models[i + 1],
                (supervisor->model_count - i - 1) * sizeof supervisor->models[0]);
        supervisor->model_count--;
        pthread_mutex_unlock(&supervisor->lock);

        supervised_free(model);
    }
}

void supervisor_look(struct supervisor *supervisor) {
    if (clock_ns() < supervisor->look_ns)
        return;
    supervisor->look_ns = clock_ns() + LOOK_NS;

    bool complete = true;
    for (size_t i = 0; i < supervisor->model_count; i++)
        supervisor->models[i]->present = false;

    for (const char *const *directory = supervisor->options->directories; *directory; directory++) {
        struct model_folder_list list = {0};
        struct error error;
        if (!model_directory_list(*directory, &list, &error)) {
            if (!supervisor->shown_failed_look)
                log_line("guichet: %s", error.message);
            supervisor->shown_failed_look = true;
            complete = false;
            continue;
        }

        for (size_t i = 0; i < list.count; i++)
            folder_seen(supervisor, &list.folders[i]);
        model_folder_list_release(&list);
    }

    supervisor->looked = true;
    if (complete)
        models_gone_remove(supervisor);
}
