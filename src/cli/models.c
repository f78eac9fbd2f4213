#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "cli/cli.h"
#include "cli/verbs.h"
#include "model/catalogue.h"
#include "model/directory.h"
#include "model/find.h"

static const char help[] =
    "List the models that are here, and those of the catalogue that guichet pull would fetch.\n"
    "\n"
    "Usage: guichet models [OPTION…]\n"
    "\n"
    "  --models DIR   look in this folder alone (else in $GUICHET_MODELS or ~/.local/share/guichet/models, "
    "and where\n"
    "                 guichet is installed)\n"
    "  --json         {\"models\": [{\"name\", \"installed\", \"bytes\", \"path\", \"variants\", "
    "\"source\"}…]}\n";

/* What is here: the folders of each place; a name in an earlier place hides the same name in a later one. */
struct places {
    struct model_roots roots;
    struct model_folder_list lists[MODEL_ROOTS];
};

static const struct model_folder *find_folder(const struct places *places, int before, const char *name) {
    for (int i = 0; i < before; i++)
        for (size_t j = 0; j < places->lists[i].count; j++)
            if (!strcmp(places->lists[i].folders[j].name, name))
                return &places->lists[i].folders[j];
    return NULL;
}

static bool places_read(struct places *places, const char *directory, struct error *error) {
    if (directory && (places->roots.paths[0] = strdup(directory)))
        places->roots.count = 1;
    else
        model_roots_find(&places->roots);
    for (int i = 0; i < places->roots.count; i++)
        if (!model_directory_list(places->roots.paths[i], &places->lists[i], error))
            return false;
    return true;
}

static void places_release(struct places *places) {
    for (int i = 0; i < places->roots.count; i++)
        model_folder_list_release(&places->lists[i]);
    model_roots_release(&places->roots);
}

/* Where the model was pulled from: source.json beside it. NULL where nobody knows. */
static char *read_source(const struct model_folder *folder) {
    char *path = NULL;
    struct error ignored = {0};
    size_t size = 0;
    if (asprintf(&path, "%s/source.json", folder->path) < 0)
        return NULL;
    cleanup(freep) char *text = file_read(path, LIMIT_CONFIG_BYTES, &size, &ignored);
    free(path);
    json_error_t at;
    json_t *note = text ? json_loadb(text, size, 0, &at) : NULL;
    const char *source = json_string_value(json_object_get(note, "source"));
    char *copy = source ? strdup(source) : NULL;
    json_decref(note);
    return copy;
}

static json_t *folder_json(const struct model_folder *folder) {
    cleanup(freep) char *source = read_source(folder);
    json_t *variants = json_array();
    for (size_t i = 0; i < folder->variant_count; i++)
        json_array_append_new(variants, json_string(folder->variants[i].name));
    return json_pack("{s:s, s:b, s:I, s:s, s:o, s:s?}", "name", folder->name, "installed", 1, "bytes",
                     (json_int_t)folder->bytes, "path", folder->path, "variants", variants, "source", source);
}

static json_t *entry_json(const struct catalogue_entry *entry) {
    return json_pack("{s:s, s:b, s:I, s:s, s:s++++}", "name", entry->name, "installed", 0, "bytes",
                     (json_int_t)entry->size, "title", entry->title, "source", "hf:", entry->repository, "@",
                     entry->revision, "");
}

static bool print_json(const struct places *places) {
    json_t *models = json_array();
    for (int i = 0; i < places->roots.count; i++)
        for (size_t j = 0; j < places->lists[i].count; j++)
            if (!find_folder(places, i, places->lists[i].folders[j].name))
                json_array_append_new(models, folder_json(&places->lists[i].folders[j]));
    for (size_t i = 0; i < catalogue_count(); i++)
        if (!find_folder(places, places->roots.count, catalogue_at(i)->name))
            json_array_append_new(models, entry_json(catalogue_at(i)));
    return cli_print_json(json_pack("{s:o}", "models", models));
}

static void print_folder(const struct model_folder *folder) {
    cleanup(freep) char *source = read_source(folder);
    printf("  %-20s %8.1f MB  %s\n", folder->name, (double)folder->bytes / 1e6,
           source ? source : folder->path);
    for (size_t i = 0; i < folder->variant_count; i++) {
        cleanup(freep) char *name = NULL;
        if (asprintf(&name, "%s:%s", folder->name, folder->variants[i].name) >= 0)
            printf("  %-20s %8.1f MB\n", name, (double)folder->variants[i].bytes / 1e6);
    }
}

static void print_table(const struct places *places) {
    bool any = false;
    printf("Here:\n");
    for (int i = 0; i < places->roots.count; i++) {
        for (size_t j = 0; j < places->lists[i].count; j++) {
            if (find_folder(places, i, places->lists[i].folders[j].name))
                continue;
            print_folder(&places->lists[i].folders[j]);
            any = true;
        }
    }
    printf("%sTo be had with guichet pull NAME:\n", any ? "" : "  none\n");
    for (size_t i = 0; i < catalogue_count(); i++) {
        const struct catalogue_entry *entry = catalogue_at(i);
        if (!find_folder(places, places->roots.count, entry->name))
            printf("  %-20s %8.1f MB  %s\n", entry->name, (double)entry->size / 1e6, entry->title);
    }
}

static const struct command self = {"models", help};

int verb_models(int argc, char **argv) {
    const char *directory = NULL;
    bool json = false;
    const struct option_spec specs[] = {
        {.name = "models", .kind = OPTION_TEXT, .value = &directory},
        {.name = "json", .kind = OPTION_FLAG, .value = &json},
        {0},
    };
    int words, status = EXIT_DONE;
    if (!options_parse(&self, argc, argv, specs, 0, 0, &words, &status))
        return status;
    struct places places = {0};
    struct error error = {0};
    if (!places_read(&places, directory, &error))
        status = cli_fail(&error);
    else if (!json)
        print_table(&places);
    else if (!print_json(&places))
        status = EXIT_FAILED;
    places_release(&places);
    return status;
}
