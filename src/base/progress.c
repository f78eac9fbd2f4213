#include "base/progress.h"

#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { REDRAW_NS = 100000000, BAR_WIDTH = 24, BAR_LIMIT = 60 };

bool terminal_has_color(FILE *stream) {
    const char *no = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return !(no && *no) && isatty(fileno(stream)) && terminal && *terminal && strcmp(terminal, "dumb") != 0;
}

bool terminal_has_utf8(void) {
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

const char *progress_bar(double share, int width, char text[PROGRESS_BAR_TEXT]) {
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
    bool utf8 = terminal_has_utf8();
    width = width > BAR_LIMIT ? BAR_LIMIT : width;
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    int filled = (int)(share * width * 8 + 0.5);

    char *at = text;
    for (int i = 0; i < width; i++, filled -= 8) {
        int part = filled > 8 ? 8 : filled > 0 ? filled : 0;
        at = stpcpy(at, utf8 ? (part ? eighths[part] : " ") : part >= 4 ? "#" : " ");
    }

    return text;
}

void progress_begin(struct progress *progress, const char *label, const char *unit, uint64_t total,
                    uint64_t first) {
    *progress =
        (struct progress){.label = label, .unit = unit, .total = total, .first = first, .began = clock_ns()};
    progress->active = isatty(STDERR_FILENO);
}

/* "12.3 MB" or "12 photos", of `amount` units. */
static void amount_format(const struct progress *progress, double amount, char *text, size_t size) {
    if (progress->unit)
        snprintf(text, size, "%.0f", amount);
    else if (amount < 1e6)
        snprintf(text, size, "%.0f kB", amount / 1e3);
    else if (amount < 1e9)
        snprintf(text, size, "%.1f MB", amount / 1e6);
    else
        snprintf(text, size, "%.2f GB", amount / 1e9);
}

static void progress_draw(const struct progress *progress, uint64_t done, double seconds) {
    char bar[PROGRESS_BAR_TEXT], now[32], all[32], rate[32], left[48] = "";
    double speed = seconds > 0 ? (double)(done - progress->first) / seconds : 0;

    amount_format(progress, (double)done, now, sizeof now);
    amount_format(progress, (double)progress->total, all, sizeof all);
    amount_format(progress, speed, rate, sizeof rate);

    if (progress->total > done && speed > 0) {
        long rest = (long)((double)(progress->total - done) / speed);
        snprintf(left, sizeof left, ", %ld:%02ld left", rest / 60, rest % 60);
    }

    const char *unit = progress->unit ? progress->unit : "";
    const char *space = progress->unit ? " " : "";

    if (progress->total)
        fprintf(stderr, "\r\033[K%s |%s| %s of %s%s%s, %s/s%s", progress->label,
                progress_bar((double)done / (double)progress->total, BAR_WIDTH, bar), now, all, space, unit,
                rate, left);
    else
        fprintf(stderr, "\r\033[K%s %s%s%s, %s/s", progress->label, now, space, unit, rate);
    fflush(stderr);
}

void progress_update(struct progress *progress, uint64_t done) {
    int64_t now = clock_ns();
    if (!progress->active || (progress->shown && now - progress->shown < REDRAW_NS))
        return;

    progress->shown = now;
    progress_draw(progress, done < progress->first ? progress->first : done,
                  (double)(now - progress->began) / 1e9);
}

void progress_end(struct progress *progress) {
    if (progress->active && progress->shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    progress->active = false;
}
