#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve/supervisor_private.h"

#define ARGUMENTS_MOST 64
#define LEAVE_SECONDS 30

extern char **environ;

/* A port that nobody has now. Somebody might take it before the child does: then the child says so and ends,
 * and is started again with another. */
static int port_free(struct error *error) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = 0;
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &length) == 0)
        port = ntohs(address.sin_port);
    else
        error_set_errno(error, ERROR_IO, errno, "finding a free port");
    if (fd >= 0)
        close(fd);
    return port;
}

/* In the child, between fork and exec: async-signal-safe calls only. */
static _Noreturn void child_run(const char *program, const char **argv, char **environment, int output,
                                pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    setpgid(0, 0); /* Ctrl-C is ours to pass on, in order */
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing >= 0)
        dup2(nothing, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    /* Sockets from systemd, files that a shell left open: nothing of it is the child's. */
    close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
    signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(program, (char **)argv, environment);
    _exit(127);
}

/* Ours, without what is meant for this tier alone. The strings stay ours; free the array. */
static char **environment_make(void) {
    static const char *const own[] = {"PORT=",       "SERVING_PORT=",        "MODEL_NAME=",     "LISTEN_FDS=",
                                      "LISTEN_PID=", "GUICHET_SESSION_KEY=", "GUICHET_API_KEY="};
    size_t count = 0, kept = 0;
    while (environ[count])
        count++;
    char **environment = calloc(count + 1, sizeof *environment);
    for (size_t i = 0; environment && i < count; i++) {
        bool drop = false;
        for (size_t o = 0; o < sizeof own / sizeof own[0]; o++)
            drop |= strncmp(environ[i], own[o], strlen(own[o])) == 0;
        if (!drop)
            environment[kept++] = environ[i];
    }
    return environment;
}

static pid_t child_start(const char *program, const char **argv, char **environment, int output) {
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        child_run(program, argv, environment, output, parent);
    return pid;
}

bool process_start(struct process *process, const struct supervisor_options *options, const char *name,
                   const char *path, struct error *error) {
    int pipe_ends[2];
    char port_text[12];
    int port = port_free(error);
    if (!port)
        return false;
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
    char **environment = environment_make();
    if (!environment || pipe2(pipe_ends, O_CLOEXEC) < 0) {
        free(environment);
        return error_set_errno(error, ERROR_IO, errno, "model \"%s\": making a pipe", name);
    }
    fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK);
    pid_t pid = child_start(program, argv, environment, pipe_ends[1]);
    int number = errno;
    close(pipe_ends[1]);
    free(environment);
    if (pid < 0) {
        close(pipe_ends[0]);
        return error_set_errno(error, ERROR_IO, number, "model \"%s\": starting a process", name);
    }
    *process = (struct process){.pid = pid, .port = port, .output = pipe_ends[0], .started_ns = clock_ns()};
    return true;
}

#define ANSWER_LIMIT (1u << 20)

#define SOON_MS 20  /* whoever is ready answers within */
#define BUSY_MS 100 /* … and who has all processors at work */

/* GET `target` of a child: the answer, head and body, as far as it comes without a pause of `patience_ms`. */
static void process_ask(const struct process *process, const char *target, int patience_ms,
                        struct buffer *ret) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)process->port)};
    char question[160], part[16 << 10];
    int length = snprintf(question, sizeof question,
                          "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", target);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ret->limit = ANSWER_LIMIT;
    if (fd < 0)
        return;
    if ((connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS) &&
        poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 5) == 1 &&
        send(fd, question, (size_t)length, MSG_NOSIGNAL) == length)
        while (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, patience_ms) == 1) {
            ssize_t got = recv(fd, part, sizeof part, 0);
            if (got <= 0 || !buffer_append(ret, part, (size_t)got))
                break;
        }
    close(fd);
}

bool process_is_ready(const struct process *process) {
    struct buffer answer = {0};
    process_ask(process, "/readyz", SOON_MS, &answer);
    bool ready = answer.bytes && strncmp(answer.bytes, "HTTP/1.1 200", 12) == 0;
    buffer_release(&answer);
    return ready;
}

void process_precision(const struct process *process, char ret[16]) {
    static const char mark[] = "\"precision\"";
    struct buffer answer = {0};
    process_ask(process, "/models?details=1", SOON_MS, &answer);
    const char *at = answer.bytes ? strstr(answer.bytes, mark) : NULL;
    at = at ? at + sizeof mark - 1 : "";
    at += strspn(at, ": \"");
    snprintf(ret, 16, "%.*s", (int)strcspn(at, "\"}"), at);
    buffer_release(&answer);
}

bool process_figures(const struct process *process, struct buffer *text) {
    static const char length_header[] = "\r\nContent-Length:";
    struct buffer answer = {0};
    process_ask(process, "/metrics", BUSY_MS, &answer);
    const char *bytes = answer.bytes ? answer.bytes : "";
    const char *body = strstr(bytes, "\r\n\r\n"), *length = strcasestr(bytes, length_header);
    bool whole = body && length && length < body && strncmp(bytes, "HTTP/1.1 200", 12) == 0;
    size_t size = whole ? answer.size - (size_t)(body + 4 - bytes) : 0;
    whole = whole && strtoull(length + sizeof length_header - 1, NULL, 10) == size &&
            buffer_append(text, body + 4, size);
    buffer_release(&answer);
    return whole;
}

static void line_end(struct process *process, const char *name) {
    process->line[process->line_length] = 0;
    if (process->line_length > 0) {
        fprintf(stderr, "[%s] %s\n", name, process->line);
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
                line_end(process, name);
            else if (process->line_length < sizeof process->line - 1)
                process->line[process->line_length++] = text[i];
        }
    }
    if (process->output >= 0) { /* it has closed it: it ends, or has ended */
        line_end(process, name);
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

void process_leave(struct supervisor *supervisor, struct process *process) {
    if (process->pid == 0)
        return;
    struct process *leaving = realloc(supervisor->leaving, (supervisor->leaving_count + 1) * sizeof *leaving);
    if (!leaving) { /* no memory to be patient with */
        kill(process->pid, SIGKILL);
        waitpid(process->pid, NULL, 0);
        if (process->output >= 0)
            close(process->output);
    } else {
        kill(process->pid, SIGTERM);
        process->kill_ns = clock_ns() + LEAVE_SECONDS * SECOND_NS;
        supervisor->leaving = leaving;
        leaving[supervisor->leaving_count++] = *process;
    }
    *process = (struct process){.output = -1};
}
