#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/progress.h"
#include "cli/cli.h"

static void print_head(const char *color, const char *head) {
    bool colored = terminal_has_color(stderr);
    fprintf(stderr, "%s%s%s ", colored ? color : "", head, colored ? "\033[0m" : "");
}

int cli_usage(const struct command *command, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "guichet %s: ", command->name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\nTry: guichet %s --help\n", command->name);
    va_end(arguments);

    return EXIT_USAGE;
}

int cli_usage_missing(const struct command *command) {
    const char *usage = strstr(command->help, "Usage: ") + strlen("Usage: ");
    return cli_usage(command, "an argument is missing: %.*s", (int)strcspn(usage, "\n"), usage);
}

int cli_fail(const struct error *error) {
    print_head("\033[31m", "guichet:");
    fprintf(stderr, "%s\n", error->message);
    return EXIT_FAILED;
}

void cli_warn(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_head("\033[33m", "guichet:");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

bool cli_print_json(json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(value);
    if (!text)
        return false;

    puts(text);
    fflush(stdout);
    free(text);
    return true;
}

json_t *cli_json_real(double value, int digits) {
    double scale = pow(10, digits);
    return json_real(round(value * scale) / scale);
}

const char *cli_percent(double probability, bool exact, char ret[CLI_PERCENT_TEXT]) {
    if (probability < 0.0005)
        snprintf(ret, CLI_PERCENT_TEXT, "< 0.1 %%");
    else if (probability > 0.9995)
        snprintf(ret, CLI_PERCENT_TEXT, "> 99.9 %%");
    else
        snprintf(ret, CLI_PERCENT_TEXT, "%.*f %%", exact || probability < 0.1 || probability > 0.99,
                 probability * 100);
    return ret;
}
