#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "cli/cli.h"
#include "cli/verbs.h"
#include "hub/catalogue.h"
#include "model/directory.h"
#include "model/find.h"

static const char help[] =
    "List the installed models, and those of the catalogue that guichet pull can fetch.\n"
    "\n"
    "Usage: guichet models [OPTION…]\n"
    "\n"
    "  --models DIR   look in this folder only ($GUICHET_MODELS or ~/.local/share/guichet/models,\n"
    "                 and the folder that guichet is installed with)\n"
    "  --json         {\"models\": [{\"name\", \"installed\", \"kind\", \"bytes\", \"path\", \"variants\", "
    "\"usual\", \"source\"}…]}\n"
    "\n"
    "A kind is network (ONNX) or language (GGUF). A name with a colon is a variant of the model above it.\n";

/* The model folders of each root; a name in an earlier root hides the same name in a later one. */
struct installed {
    struct model_roots roots;
    struct model_folder_list lists[MODEL_ROOTS];
};

static const struct model_folder *find_folder(const struct installed *installed, int before,
                                              const char *name) {
    for (int i = 0; i < before; i++)
        for (size_t j = 0; j < installed->lists[i].count; j++)
            if (!strcmp(installed->lists[i].folders[j].name, name))
                return &installed->lists[i].folders[j];
    return NULL;
}

static bool read_installed(struct installed *installed, const char *directory, struct error *error) {
    if (directory && (installed->roots.paths[0] = strdup(directory)))
        installed->roots.count = 1;
    else
        model_roots_find(&installed->roots);

    for (int i = 0; i < installed->roots.count; i++)
        if (!model_directory_list(installed->roots.paths[i], &installed->lists[i], error))
            return false;
    return true;
}

static void release_installed(struct installed *installed) {
    for (int i = 0; i < installed->roots.count; i++)
        model_folder_list_release(&installed->lists[i]);
    model_roots_release(&installed->roots);
}

/* Where the model was pulled from, by its source.json; malloc'ed. NULL: not known. */
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

static const char *kind_name(enum model_kind kind) {
    return kind == MODEL_LANGUAGE ? "language" : "network";
}

static json_t *folder_to_json(const struct model_folder *folder) {
    cleanup(freep) char *source = read_source(folder);
    json_t *variants = json_array();
    for (size_t i = 0; i < folder->variant_count; i++)
        json_array_append_new(variants, json_string(folder->variants[i].name));
    return json_pack("{s:s, s:b, s:s, s:I, s:s, s:o, s:s?, s:s?}", "name", folder->name, "installed", 1,
                     "kind", kind_name(folder->kind), "bytes", (json_int_t)folder->bytes, "path",
                     folder->path, "variants", variants, "usual", folder->usual, "source", source);
}

static json_t *entry_to_json(const struct catalogue_entry *entry) {
    return json_pack("{s:s, s:b, s:s, s:I, s:s, s:s++++}", "name", entry->name, "installed", 0, "kind",
                     "network", "bytes", (json_int_t)entry->size, "title", entry->title, "source",
                     "hf:", entry->repository, "@", entry->revision, "");
}

static bool print_json(const struct installed *installed) {
    json_t *models = json_array();
    for (int i = 0; i < installed->roots.count; i++)
        for (size_t j = 0; j < installed->lists[i].count; j++)
            if (!find_folder(installed, i, installed->lists[i].folders[j].name))
                json_array_append_new(models, folder_to_json(&installed->lists[i].folders[j]));

    for (size_t i = 0; i < catalogue_count(); i++)
        if (!find_folder(installed, installed->roots.count, catalogue_at(i)->name))
            json_array_append_new(models, entry_to_json(catalogue_at(i)));

    return cli_print_json(json_pack("{s:o}", "models", models));
}

static bool is_usual(const struct model_folder *folder, size_t variant) {
    return folder->usual && strcmp(folder->usual, folder->variants[variant].name) == 0;
}

static void print_folder(const struct model_folder *folder) {
    cleanup(freep) char *source = read_source(folder);
    printf("  %-20s %-8s %8.1f MB  %s\n", folder->name, kind_name(folder->kind), (double)folder->bytes / 1e6,
           source ? source : folder->path);

    for (size_t i = 0; i < folder->variant_count; i++) {
        cleanup(freep) char *name = NULL;
        if (asprintf(&name, "%s:%s", folder->name, folder->variants[i].name) >= 0)
            printf("  %-20s %-8s %8.1f MB%s\n", name, "", (double)folder->variants[i].bytes / 1e6,
                   is_usual(folder, i) ? "  the one that the name alone means" : "");
    }
}

static void print_table(const struct installed *installed) {
    bool any = false;
    printf("Installed:\n");

    for (int i = 0; i < installed->roots.count; i++) {
        for (size_t j = 0; j < installed->lists[i].count; j++) {
            if (find_folder(installed, i, installed->lists[i].folders[j].name))
                continue;
            print_folder(&installed->lists[i].folders[j]);
            any = true;
        }
    }

    printf("%sAvailable to pull (guichet pull NAME):\n", any ? "" : "  none\n");
    for (size_t i = 0; i < catalogue_count(); i++) {
        const struct catalogue_entry *entry = catalogue_at(i);
        if (!find_folder(installed, installed->roots.count, entry->name))
            printf("  %-20s %-8s %8.1f MB  %s\n", entry->name, "network", (double)entry->size / 1e6,
                   entry->title);
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

    struct installed installed = {0};
    struct error error = {0};
    if (!read_installed(&installed, directory, &error))
        status = cli_fail(&error);
    else if (!json)
        print_table(&installed);
    else if (!print_json(&installed))
        status = EXIT_FAILED;

    release_installed(&installed);
    return status;
}
