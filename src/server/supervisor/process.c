#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "server/supervisor/supervisor_private.h"

#define ARGUMENTS_MOST 64
#define LEAVE_SECONDS 30
#define LISTENER_FD 3 /* of a child: the first that systemd would pass */
#define SOON_MS 100   /* enough for a ready process */

extern char **environ;

/* What a child is started with. */
struct child {
    const char *program, **argv;
    char **environment;
    char listen_pid[40]; /* of the environment: "LISTEN_PID=" with room for a number */
    int listener, output;
    pid_t parent;
};

/* A socket that listens on a free port of loopback. The child gets it ready, so no other program can take the
 * port between the choice and its use. -1 on failure. */
static int open_listener(int *ret_port, struct error *error) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, SOMAXCONN) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &length) == 0) {
        *ret_port = ntohs(address.sin_port);
        return fd;
    }

    error_set_errno(error, ERROR_IO, errno, "listening on a free port of 127.0.0.1");
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Append a number's digits; async-signal-safe. */
static void append_digits(char *text, long number) {
    char digits[24];
    int count = 0;

    for (; count == 0 || number > 0; number /= 10)
        digits[count++] = (char)('0' + number % 10);
    text += strlen(text);
    while (count > 0)
        *text++ = digits[--count];
    *text = 0;
}

/* In the child, between fork and exec: async-signal-safe calls only. */
static _Noreturn void run_child(struct child *child) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != child->parent)
        _exit(127);
    setpgid(0, 0); /* Ctrl-C must not reach children: the supervisor stops them in order */

    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing >= 0)
        dup2(nothing, STDIN_FILENO);
    dup2(child->output, STDOUT_FILENO);
    dup2(child->output, STDERR_FILENO);

    /* The child inherits its own socket, as systemd passes one, and no other descriptor (the sockets that
     * systemd passed to us, files left open by a shell). */
    if (child->listener == LISTENER_FD)
        fcntl(LISTENER_FD, F_SETFD, 0);
    else
        dup2(child->listener, LISTENER_FD);
    close_range(LISTENER_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC);
    append_digits(child->listen_pid, getpid());

    signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    execve(child->program, (char **)child->argv, child->environment);
    _exit(127);
}

/* This process's environment without the variables meant for it alone, nor any secret (HF_TOKEN): a model's
 * process needs none. At its end the two that tell of the socket. Free the array, not the strings. */
static char **make_environment(char *listen_pid) {
    static char listen_fds[] = "LISTEN_FDS=1";
    static const char *const own[] = {"PORT=",       "SERVING_PORT=",        "MODEL_NAME=",     "LISTEN_FDS=",
                                      "LISTEN_PID=", "GUICHET_SESSION_KEY=", "GUICHET_API_KEY="};
    static const char *const secrets[] = {"TOKEN", "SECRET", "PASSWORD", "CREDENTIALS", "_KEY"};
    size_t count = 0, kept = 0;

    while (environ[count])
        count++;
    char **environment = calloc(count + 3, sizeof *environment);
    if (!environment)
        return NULL;

    for (size_t i = 0; i < count; i++) {
        bool drop = false;
        for (size_t o = 0; o < sizeof own / sizeof own[0]; o++)
            drop |= strncmp(environ[i], own[o], strlen(own[o])) == 0;
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(environ[i], "="), environ[i]);
        for (size_t o = 0; o < sizeof secrets / sizeof secrets[0]; o++)
            drop |= strstr(name, secrets[o]) != NULL;
        if (!drop)
            environment[kept++] = environ[i];
    }

    environment[kept++] = listen_fds;
    environment[kept] = listen_pid;
    return environment;
}

/* Fork and exec; -1 and errno on failure. *ret_output: where to read what it writes. */
static pid_t fork_child(struct child *child, int *ret_output) {
    int pipe_ends[2];

    child->environment = make_environment(child->listen_pid);
    if (!child->environment || pipe2(pipe_ends, O_CLOEXEC) < 0) {
        free(child->environment);
        return -1;
    }
    fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK);
    child->output = pipe_ends[1];
    child->parent = getpid();

    pid_t pid = fork();
    if (pid == 0)
        run_child(child);

    int number = errno;
    close(pipe_ends[1]);
    free(child->environment);
    if (pid < 0)
        close(pipe_ends[0]);
    errno = number;
    *ret_output = pipe_ends[0];
    return pid;
}

bool process_start(struct supervisor *supervisor, struct process *process, const char *name, const char *path,
                   struct error *error) {
    const struct supervisor_options *options = supervisor->options;
    char port_text[12];
    int port, output, listener = open_listener(&port, error);
    if (listener < 0)
        return error_prefix(error, "model \"%s\"", name);

    snprintf(port_text, sizeof port_text, "%d", port);
    const char *program = options->backend_program ? options->backend_program : "/proc/self/exe";
    const char *argv[ARGUMENTS_MOST + 1] = {options->backend_program ? program : "guichet",
                                            "backend",
                                            "--model",
                                            path,
                                            "--name",
                                            name,
                                            "--address",
                                            "127.0.0.1",
                                            "--port",
                                            port_text};
    int count = 10;
    for (const char *const *more = options->backend_arguments; more && *more && count < ARGUMENTS_MOST;
         more++)
        argv[count++] = *more;

    struct child_client *client = child_client_create(supervisor->loops, port, supervisor->wake, error);
    if (!client) {
        close(listener);
        return false;
    }

    struct child child = {
        .program = program, .argv = argv, .listen_pid = "LISTEN_PID=", .listener = listener};
    pid_t pid = fork_child(&child, &output);
    int number = errno;
    close(listener);
    if (pid < 0) {
        child_client_free(client);
        return error_set_errno(error, ERROR_IO, number, "model \"%s\": starting a process", name);
    }

    *process = (struct process){
        .pid = pid,
        .port = port,
        .client = client,
        .output = output,
        .started_ns = clock_ns(),
    };
    return true;
}

static void end_line(struct process *process, const char *name) {
    process->line[process->line_length] = 0;
    if (process->line_length > 0) {
        log_line("[%s] %s", name, process->line);
        strcpy(process->last_line, process->line);
    }
    process->line_length = 0;
}

void process_read(struct process *process, const char *name) {
    char text[4096];
    ssize_t length;

    while (process->output >= 0 && (length = read(process->output, text, sizeof text)) != 0) {
        if (length < 0) {
            if (errno == EINTR)
                continue;
            return;
        }
        for (ssize_t i = 0; i < length; i++) {
            if (text[i] == '\n')
                end_line(process, name);
            else if (process->line_length < sizeof process->line - 1)
                process->line[process->line_length++] = text[i];
        }
    }
    if (process->output >= 0) { /* end of file: the process is ending or has ended */
        end_line(process, name);
        close(process->output);
        process->output = -1;
    }
}

/* "Pss: 1234 kB" of smaps_rollup: pages shared by several backends, as libraries are, count a part in each.
 */
int64_t process_memory(pid_t pid) {
    char path[64], line[200];
    long kilobytes = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Pss: %ld kB", &kilobytes) == 1)
            break;

    if (file)
        fclose(file);
    return kilobytes * 1024;
}

void process_close(struct process *process) {
    if (process->output >= 0)
        close(process->output);
    child_client_free(process->client);
    *process = (struct process){.output = -1};
}

void process_describe(const struct process *process, char ret[16], struct model_meaning *ret_meaning) {
    struct buffer text = {.limit = 64 << 10};
    json_t *models = NULL;

    ret[0] = 0;
    if (child_client_get(process->client, "/models?details=1", SOON_MS, &text))
        models = json_loadb(text.bytes, text.size, 0, NULL);
    const char *precision = json_string_value(json_object_get(json_array_get(models, 0), "precision"));
    if (precision)
        snprintf(ret, 16, "%s", precision);
    model_meaning_read(json_array_get(models, 0), ret_meaning);
    json_decref(models);
    buffer_release(&text);
}

void process_leave(struct supervisor *supervisor, struct process *process) {
    if (process->pid == 0)
        return;

    struct process *leaving = realloc(supervisor->leaving, (supervisor->leaving_count + 1) * sizeof *leaving);
    if (!leaving) { /* out of memory: cannot wait for it */
        kill(process->pid, SIGKILL);
        waitpid(process->pid, NULL, 0);
        process_close(process);
    } else {
        kill(process->pid, process->served ? SIGTERM : SIGKILL); /* one that still loads has no requests */
        process->kill_ns = clock_ns() + LEAVE_SECONDS * SECOND_NS;
        supervisor->leaving = leaving;
        leaving[supervisor->leaving_count++] = *process;
    }

    *process = (struct process){.output = -1};
}
