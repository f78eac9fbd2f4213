#include "cli/plan_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { SLOWEST = 12, KERNELS = 4, STEP_TEXT = 128, NAME_COLUMNS = 44 };

/* The steps that do the same thing. */
struct plan_row {
    const char *action;
    const char *kernels[KERNELS];
    int steps, kernel_count; /* of the first KERNELS */
    double ms, flops;
};

bool plan_times_init(struct plan_times *times, const struct plan *plan, const int64_t *before,
                     const int64_t *after, int runs, double run_ms) {
    times->plan = plan;
    times->run_ms = run_ms;
    times->step_ms = calloc((size_t)plan->step_count + 1, sizeof *times->step_ms);
    for (int i = 0; times->step_ms && i < plan->step_count; i++)
        times->step_ms[i] = (double)(after[i] - before[i]) / 1e6 / runs;
    return times->step_ms != NULL;
}

void plan_times_release(struct plan_times *times) {
    free(times->step_ms);
    times->step_ms = NULL;
}

static void add_step(struct plan_row *row, const struct step *step, double ms) {
    int i = 0;
    while (i < row->kernel_count && strcmp(row->kernels[i], step->kernel_name) != 0)
        i++;

    if (i == row->kernel_count && i < KERNELS)
        row->kernels[row->kernel_count++] = step->kernel_name;
    row->steps++;
    row->ms += ms;
    row->flops += step->flops;
}

static int compare_rows(const void *a, const void *b) {
    const struct plan_row *x = a, *y = b;
    return x->ms != y->ms ? (x->ms < y->ms) - (x->ms > y->ms) : y->steps - x->steps;
}

/* The slowest first; the most steps first where `step_ms` is NULL. malloc'ed; NULL when memory is out. */
static struct plan_row *create_rows(const struct plan *plan, const double *step_ms, int *ret_count) {
    struct plan_row *rows = calloc((size_t)plan->step_count + 1, sizeof *rows);
    *ret_count = 0;

    for (int i = 0; rows && i < plan->step_count; i++) {
        int at = 0;
        while (at < *ret_count && strcmp(rows[at].action, plan->steps[i].action) != 0)
            at++;
        if (at == *ret_count)
            rows[(*ret_count)++].action = plan->steps[i].action;
        add_step(&rows[at], &plan->steps[i], step_ms ? step_ms[i] : 0);
    }

    if (rows)
        qsort(rows, (size_t)*ret_count, sizeof *rows, compare_rows);
    return rows;
}

static double per_second(double flops, double ms) {
    return ms > 0 ? flops / ms / 1e6 : 0;
}

static double share(const struct plan_times *times, double ms) {
    return times->run_ms > 0 ? 100 * ms / times->run_ms : 0;
}

/* Time of the steps that are convolutions or matrix products. */
static double products_ms(const struct plan_times *times) {
    double sum = 0;
    for (int i = 0; i < times->plan->step_count; i++)
        if (times->plan->steps[i].flops > 0)
            sum += times->step_ms[i];
    return sum;
}

static const char *layout_name(const struct plan_tensor *tensor, char *text, size_t size) {
    if (!tensor || !tensor->layout)
        return "plain";
    return layout_describe(tensor->layout, text, size);
}

/* "channels last -> plain": of the first input and the output. */
static const char *step_layouts(const struct step *step, char *text, size_t size) {
    char from[STEP_TEXT], to[STEP_TEXT];
    const struct plan_tensor *input = NULL, *output = NULL;
    if (step->kind != STEP_PRIMITIVE) {
        input = step->input_count > 0 ? step->arguments[0] : NULL;
        output = step->argument_count > step->input_count ? step->arguments[step->input_count] : NULL;
    }

    for (int i = 0; step->kind == STEP_PRIMITIVE && i < step->argument_count; i++) {
        if (step->roles[i] == ARGUMENT_SOURCE)
            input = step->arguments[i];
        if (step->roles[i] == ARGUMENT_DESTINATION)
            output = step->arguments[i];
    }

    snprintf(text, size, "%s %s -> %s %s", input ? dtype_name(input->dtype) : "",
             layout_name(input, from, sizeof from), output ? dtype_name(output->dtype) : "",
             layout_name(output, to, sizeof to));
    return text;
}

static void print_rows(const struct plan_times *times) {
    int count;
    struct plan_row *rows = create_rows(times->plan, times->step_ms, &count);
    printf("\n  %-28s %5s %9s %7s %9s  %s\n", "action", "steps", "ms", "share", "GFLOP/s", "kernels");

    for (int i = 0; rows && i < count; i++) {
        printf("  %-28s %5d %9.3f %6.1f%% ", rows[i].action, rows[i].steps, rows[i].ms,
               share(times, rows[i].ms));
        if (rows[i].flops > 0)
            printf("%9.1f ", per_second(rows[i].flops, rows[i].ms));
        else
            printf("%9s ", "");
        for (int k = 0; k < rows[i].kernel_count; k++)
            printf("%s %s", k ? "," : "", rows[i].kernels[k]);
        putchar('\n');
    }

    free(rows);
}

/* Indices of the slowest steps, the slowest first; returns how many. */
static int find_slowest(const struct plan_times *times, int *ret) {
    int count = 0;
    for (int i = 0; i < times->plan->step_count; i++) {
        int at = count < SLOWEST ? count++ : SLOWEST - 1;
        if (at == SLOWEST - 1 && count == SLOWEST && i >= SLOWEST &&
            times->step_ms[ret[at]] >= times->step_ms[i])
            continue;
        for (; at > 0 && times->step_ms[ret[at - 1]] < times->step_ms[i]; at--)
            ret[at] = ret[at - 1];
        ret[at] = i;
    }

    return count;
}

/* "Conv+Relu …/layer1/conv2", padded. Names of a network differ at their ends, which are shown. */
static void print_step_name(const struct step *step) {
    int room = NAME_COLUMNS - (int)strlen(step->action) - 1, length = (int)strlen(step->name);
    bool cut = length > room;
    int shown = !cut ? length : room > 1 ? room - 1 : 0;
    printf("  %s %s%s%*s", step->action, cut ? "…" : "", step->name + length - shown,
           room - shown - cut > 0 ? room - shown - cut : 0, "");
}

static void print_slowest(const struct plan_times *times) {
    int slowest[SLOWEST];
    char text[3 * STEP_TEXT];
    int count = find_slowest(times, slowest);
    printf("\n  %-*s %9s %7s %9s  %s\n", NAME_COLUMNS, "slowest steps", "ms", "share", "GFLOP/s",
           "kernel, layouts");

    for (int i = 0; i < count; i++) {
        const struct step *step = &times->plan->steps[slowest[i]];
        double ms = times->step_ms[slowest[i]];
        print_step_name(step);
        printf(" %9.3f %6.1f%% %9.1f  ", ms, share(times, ms), per_second(step->flops, ms));
        printf("%s, %s\n", step->kernel_name, step_layouts(step, text, sizeof text));
    }
}

void plan_times_print(const struct plan_times *times) {
    double products = products_ms(times);
    print_rows(times);
    print_slowest(times);
    printf("\n  one run                                  %9.3f ms\n", times->run_ms);
    printf("  convolutions and matrix products alone   %9.3f ms", products);
    if (products > 0)
        printf(": the whole takes %.1f %% more", 100 * (times->run_ms / products - 1));
    putchar('\n');
}

static json_t *row_to_json(const struct plan_times *times, const struct plan_row *row) {
    json_t *kernels = json_array();
    for (int i = 0; i < row->kernel_count; i++)
        json_array_append_new(kernels, json_string(row->kernels[i]));
    return json_pack("{s:s, s:i, s:o, s:o, s:o, s:o}", "action", row->action, "steps", row->steps, "ms",
                     cli_json_real(row->ms, 6), "share_percent", cli_json_real(share(times, row->ms), 3),
                     "gflops_per_s", cli_json_real(per_second(row->flops, row->ms), 3), "kernels", kernels);
}

static json_t *step_to_json(const struct plan_times *times, int index) {
    const struct step *step = &times->plan->steps[index];
    char layouts[3 * STEP_TEXT];
    double ms = times->step_ms[index];

    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "name", step->name, "action", step->action,
                     "kernel", step->kernel_name, "layouts", step_layouts(step, layouts, sizeof layouts),
                     "ms", cli_json_real(ms, 6), "gflop", cli_json_real(step->flops / 1e9, 9), "gflops_per_s",
                     cli_json_real(per_second(step->flops, ms), 3));
}

json_t *plan_times_to_json(const struct plan_times *times) {
    int count;
    double products = products_ms(times);
    struct plan_row *rows = create_rows(times->plan, times->step_ms, &count);
    json_t *actions = json_array(), *steps = json_array();

    for (int i = 0; rows && i < count; i++)
        json_array_append_new(actions, row_to_json(times, &rows[i]));
    for (int i = 0; i < times->plan->step_count; i++)
        json_array_append_new(steps, step_to_json(times, i));

    free(rows);
    json_t *above = products > 0 ? cli_json_real(100 * (times->run_ms / products - 1), 3) : json_null();
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "run_ms", cli_json_real(times->run_ms, 6), "products_ms",
                     cli_json_real(products, 6), "above_percent", above, "actions", actions, "steps", steps);
}

static void print_steps(const struct plan *plan) {
    char text[3 * STEP_TEXT], shape[SHAPE_TEXT];
    for (int i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        const struct plan_tensor *output = step->arguments[step->argument_count - 1];
        for (int j = 0; step->kind == STEP_PRIMITIVE && j < step->argument_count; j++)
            if (step->roles[j] == ARGUMENT_DESTINATION)
                output = step->arguments[j];
        printf("  %5d  %-24s %-16s %s, %s, %s\n", i, step->action,
               output ? shape_format(&output->shape, shape, sizeof shape) : "", step->kernel_name,
               step_layouts(step, text, sizeof text), step->name);
    }
}

void plan_print(const struct plan *plan, bool every_step) {
    int count, kinds[3] = {0}, fused = 0;
    struct plan_row *rows = create_rows(plan, NULL, &count);
    for (int i = 0; i < plan->step_count; i++) {
        kinds[plan->steps[i].kind]++;
        fused += strchr(plan->steps[i].action, '+') != NULL;
    }

    printf("  %-11s %d steps: %d of oneDNN, %d own kernels, %d reference kernels; %d have other operators "
           "fused into them\n",
           "plan", plan->step_count, kinds[STEP_PRIMITIVE], kinds[STEP_KERNEL], kinds[STEP_REFERENCE], fused);

    for (int i = 0; rows && i < count; i++) {
        printf("  %-11s %4d  %-24s", "", rows[i].steps, rows[i].action);
        for (int k = 0; k < rows[i].kernel_count; k++)
            printf("%s %s", k ? "," : "", rows[i].kernels[k]);
        putchar('\n');
    }

    free(rows);
    printf("  %-11s %.1f MB of activations, %.1f MB of packed weights\n", "memory",
           (double)plan->arena_bytes / 1e6, (double)weights_total_bytes(plan->weights) / 1e6);
    if (every_step)
        print_steps(plan);
}
