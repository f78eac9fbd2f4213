/* guichet chat: a conversation with a language model on the terminal. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/progress.h"
#include "cli/cli.h"
#include "cli/language.h"
#include "cli/talk.h"
#include "cli/text_stream.h"
#include "cli/verbs.h"

DEFINE_FREEP(struct talk, talk)

static const char help[] =
    "Talk with a language model.\n"
    "\n"
    "Usage: guichet chat [MODEL] [OPTION…]\n"
    "\n"
    "MODEL is a name, a folder or a .gguf file with a chat template (tales, else the first one that is\n"
    "installed). A line is a message; one that ends in \\ goes on in the next. Ctrl-C stops an answer,\n"
    "Ctrl-D ends. /help lists what else can be said.\n"
    "\n"
    "  --system TEXT      what the model is told beforehand\n"
    "  --tokens N         at most so many tokens an answer (what there is room for)\n"
    "  --context N        tokens of the conversation (guichet.json's, else the model's, at most 8192)\n"
    "  --temperature T    0: always the likeliest token; higher: more surprises (0.8)\n"
    "  --top-p P          only the likeliest tokens that have this probability together (0.95)\n"
    "  --top-k N          only the likeliest N tokens; 0: all (40)\n"
    "  --min-p P          only tokens at least P times as likely as the likeliest (0.05)\n"
    "  --seed N           the same seed gives the same answers (others each time)\n"
    "  --precision P      auto; f32: exactly, several times slower (auto)\n"
    "  --threads N        threads (all processors)\n"
    "\n"
    "Examples:\n"
    "  guichet chat\n"
    "  guichet chat smollm2:Q8_0 --system \"Answer in one sentence.\"\n"
    "  echo \"Name three rivers.\" | guichet chat smollm2\n";

static const struct command self = {"chat", help};

static const char commands[] = "  /again            another answer to what was said last\n"
                               "  /new              forget all that was said\n"
                               "  /system TEXT      what the model is told beforehand; without TEXT nothing\n"
                               "  /temperature T    0: always the likeliest token; higher: more surprises\n"
                               "  /quit             end (as Ctrl-D does)\n"
                               "  //TEXT            say /TEXT\n";

/* ---- Ctrl-C ---- */

static volatile sig_atomic_t interrupted;
static int
    interrupts[2]; /* a pipe with a byte for each, for poll: any thread may take the signal, at any time */

static void on_interrupt(int signal) {
    (void)signal;
    int number = errno;
    interrupted = 1;
    if (write(interrupts[1], "", 1) < 0)
        errno = number; /* it is full of them */
}

static bool watch_interrupts(struct error *error) {
    struct sigaction action = {.sa_handler = on_interrupt};
    if (pipe2(interrupts, O_CLOEXEC | O_NONBLOCK) < 0)
        return error_set_errno(error, ERROR_IO, errno, "a pipe for Ctrl-C");
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    return true;
}

static void forget_interrupts(void) {
    char bytes[64];
    while (read(interrupts[0], bytes, sizeof bytes) > 0)
        continue;
    interrupted = 0;
}

/* Until there is something to read; false where Ctrl-C came first. */
static bool wait_for_input(void) {
    struct pollfd files[] = {{.fd = interrupts[0], .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    while (poll(files, 2, -1) < 0 && errno == EINTR)
        continue;
    return !files[0].revents;
}

/* ---- The terminal ---- */

struct terminal {
    struct talk *talk;
    bool is_person; /* somebody types, and reads */
    bool failed;    /* something could not be answered */
};

/* Of an answer: blanks before its first word are left out. */
struct printed {
    struct text_stream stream;
    bool began;
};

static bool print_piece(void *data, const char *bytes, size_t size) {
    struct printed *printed = data;
    while (!printed->began && size && (*bytes == ' ' || *bytes == '\n')) {
        bytes++;
        size--;
    }
    printed->began = printed->began || size;
    text_stream_write(&printed->stream, bytes, size);
    return !interrupted;
}

static void show_end(const struct terminal *terminal, enum talk_end end) {
    static const char *const notes[] = {[TALK_LENGTH] = "as many tokens as --tokens says",
                                        [TALK_FULL] = "the context is full: /new begins anew",
                                        [TALK_STOPPED] = "stopped"};
    if (terminal->is_person && end != TALK_DONE)
        printf("(%s)\n", notes[end]);
}

static void fail(struct terminal *terminal, const struct error *error) {
    fflush(stdout);
    cli_fail(error);
    terminal->failed = true;
}

/* Say `words`, or ask for another answer (NULL). */
static void answer(struct terminal *terminal, const char *words) {
    struct printed printed = {.stream = {.file = stdout, .is_plain = isatty(STDOUT_FILENO)}};
    struct error error;
    enum talk_end end;
    forget_interrupts();
    bool done = words ? talk_say(terminal->talk, words, print_piece, &printed, &end, &error)
                      : talk_again(terminal->talk, print_piece, &printed, &end, &error);

    text_stream_end(&printed.stream);
    forget_interrupts();
    if (!done) {
        fail(terminal, &error);
        return;
    }
    putchar('\n');
    show_end(terminal, end);
}

/* ---- Commands ---- */

static void set_temperature(struct terminal *terminal, const char *text) {
    struct error error;
    char *end;
    double temperature = strtod(text, &end);
    if (!*text || *end || !(temperature >= 0 && temperature <= 100))
        error_set(&error, ERROR_INVALID, "/temperature takes a number from 0 to 100, not '%.40s'", text);
    else if (talk_set_temperature(terminal->talk, temperature, &error))
        return;
    fail(terminal, &error);
}

/* What follows the command, where the line is that command. */
static const char *match(const char *line, const char *command) {
    size_t size = strlen(command);
    if (strncmp(line, command, size) != 0 || (line[size] && line[size] != ' '))
        return NULL;
    return line + size + strspn(line + size, " ");
}

/* False: the end. */
static bool obey(struct terminal *terminal, const char *line) {
    struct error error;
    const char *rest;
    if (match(line, "/quit") || match(line, "/exit"))
        return false;

    if (match(line, "/help")) {
        fputs(commands, stdout);
    } else if (match(line, "/again")) {
        answer(terminal, NULL);
    } else if (match(line, "/new")) {
        talk_reset(terminal->talk);
    } else if ((rest = match(line, "/system"))) {
        if (!talk_set_system(terminal->talk, rest) && !error_set(&error, ERROR_INVALID, "that is not UTF-8"))
            fail(terminal, &error);
    } else if ((rest = match(line, "/temperature"))) {
        set_temperature(terminal, rest);
    } else {
        error_set(&error, ERROR_INVALID, "%.40s is no command: /help lists them, and //… says it", line);
        fail(terminal, &error);
    }
    return true;
}

/* ---- Lines ---- */

/* A message: a line, and more of them as long as they end in \. False at the end of the input; an interrupted
 * one is empty. */
static bool read_message(const struct terminal *terminal, struct buffer *message) {
    cleanup(freep) char *line = NULL;
    size_t capacity = 0;
    buffer_release(message);

    for (const char *prompt = "> ";; prompt = ". ") {
        if (terminal->is_person)
            fputs(prompt, stdout);
        fflush(stdout);
        errno = 0;
        bool is_input = !terminal->is_person || wait_for_input();
        ssize_t length = is_input ? getline(&line, &capacity, stdin) : -1;
        if (!is_input || (length < 0 && errno == EINTR)) {
            clearerr(stdin);
            forget_interrupts();
            printf("\n(Ctrl-D or /quit ends)\n");
            buffer_release(message);
            return true;
        }
        if (length < 0)
            return message->size > 0;

        if (length && line[length - 1] == '\n')
            line[--length] = 0;
        bool goes_on = length && line[length - 1] == '\\';
        buffer_append(message, line, (size_t)length - goes_on);
        if (!goes_on)
            return true;
        buffer_append(message, "\n", 1);
    }
}

static bool is_blank(const char *text) {
    return text[strspn(text, " \t\r\n")] == 0;
}

static void converse(struct terminal *terminal) {
    struct buffer message = {0};
    bool goes_on = true;
    if (terminal->is_person)
        printf("Ctrl-C stops an answer, Ctrl-D ends, /help tells more.\n");

    while (goes_on && read_message(terminal, &message)) {
        const char *words = message.size ? message.bytes : "";
        if (is_blank(words))
            continue;
        if (words[0] == '/' && words[1] != '/')
            goes_on = obey(terminal, words);
        else
            answer(terminal, words[0] == '/' ? words + 1 : words);
    }
    if (terminal->is_person && goes_on)
        putchar('\n');
    buffer_release(&message);
}

/* ---- The verb ---- */

struct chat_arguments {
    struct talk_options talk;
    const char *system, *precision;
    int context;
    double seed;
};

static int chat(const char *name, const struct chat_arguments *arguments) {
    struct error error;
    struct model_files files;
    if (!language_find(name, &files, &error))
        return cli_fail(&error);

    cleanup(talk_freep) struct talk *talk = talk_create(&files, &arguments->talk, &error);
    model_files_release(&files);
    if (!talk)
        return cli_fail(&error);
    if (arguments->system && !talk_set_system(talk, arguments->system))
        return cli_usage(&self, "--system is not UTF-8");

    struct terminal terminal = {.talk = talk, .is_person = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)};
    if (!watch_interrupts(&error))
        return cli_fail(&error);
    converse(&terminal);
    return terminal.failed && !terminal.is_person ? EXIT_FAILED : EXIT_DONE;
}

int verb_chat(int argc, char **argv) {
    struct chat_arguments arguments = {.talk = {.sampler = SAMPLER_DEFAULTS}, .seed = -1};
    struct sampler_options *sampler = &arguments.talk.sampler;
    const struct option_spec options[] = {
        {.name = "system", .kind = OPTION_TEXT, .value = &arguments.system},
        {.name = "tokens",
         .kind = OPTION_INT,
         .value = &arguments.talk.tokens,
         .minimum = 1,
         .maximum = 1 << 24},
        {.name = "context",
         .kind = OPTION_INT,
         .value = &arguments.context,
         .minimum = 1,
         .maximum = 1 << 24},
        {.name = "temperature", .kind = OPTION_REAL, .value = &sampler->temperature, .maximum = 100},
        {.name = "top-p", .kind = OPTION_REAL, .value = &sampler->top_p, .maximum = 1},
        {.name = "top-k", .kind = OPTION_INT, .value = &sampler->top_k, .maximum = 1 << 24},
        {.name = "min-p", .kind = OPTION_REAL, .value = &sampler->min_p, .maximum = 1},
        {.name = "seed", .kind = OPTION_REAL, .value = &arguments.seed, .maximum = 0x1p53},
        {.name = "precision", .kind = OPTION_TEXT, .value = &arguments.precision},
        {.name = "threads",
         .kind = OPTION_INT,
         .value = &arguments.talk.threads,
         .minimum = 1,
         .maximum = 1024},
        {0},
    };
    struct error error;
    int words, code;

    if (!options_parse(&self, argc, argv, options, 0, 1, &words, &code) ||
        !language_precision(&self, arguments.precision, &arguments.talk.precision, &code))
        return code;
    if (!language_seed(arguments.seed, &sampler->seed, &error))
        return cli_fail(&error);
    arguments.talk.context = arguments.context;
    return chat(words ? argv[1] : NULL, &arguments);
}
