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
#define SOON_MS 100 /* enough for a ready process */

extern char **environ;

/* A port that is free now. If it is taken before the child binds it, the child fails and is restarted with
 * another. */
static int find_free_port(struct error *error) {
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
static _Noreturn void run_child(const char *program, const char **argv, char **environment, int output,
                                pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    setpgid(0, 0); /* Ctrl-C must not reach children: the supervisor stops them in order */

    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing >= 0)
        dup2(nothing, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);

    /* The child inherits no other descriptor (systemd's sockets, files left open by a shell). */
    close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);

    signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    execve(program, (char **)argv, environment);
    _exit(127);
}

/* This process's environment without the variables meant for it alone, nor any secret (HF_TOKEN): a model's
 * process needs none. Free the array, not the strings. */
static char **make_environment(void) {
    static const char *const own[] = {"PORT=",       "SERVING_PORT=",        "MODEL_NAME=",     "LISTEN_FDS=",
                                      "LISTEN_PID=", "GUICHET_SESSION_KEY=", "GUICHET_API_KEY="};
    static const char *const secrets[] = {"TOKEN", "SECRET", "PASSWORD", "CREDENTIALS", "_KEY"};
    size_t count = 0, kept = 0;

    while (environ[count])
        count++;
    char **environment = calloc(count + 1, sizeof *environment);

    for (size_t i = 0; environment && i < count; i++) {
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

    return environment;
}

static pid_t fork_child(const char *program, const char **argv, char **environment, int output) {
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        run_child(program, argv, environment, output, parent);
    return pid;
}

bool process_start(struct supervisor *supervisor, struct process *process, const char *name, const char *path,
                   struct error *error) {
    const struct supervisor_options *options = supervisor->options;
    int pipe_ends[2];
    char port_text[12];
    int port = find_free_port(error);

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

    struct child_client *client = child_client_create(supervisor->loops, port, supervisor->wake, error);
    if (!client)
        return false;

    char **environment = make_environment();
    if (!environment || pipe2(pipe_ends, O_CLOEXEC) < 0) {
        int number = errno;
        free(environment);
        child_client_free(client);
        return error_set_errno(error, ERROR_IO, number, "model \"%s\": making a pipe", name);
    }

    fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK);
    pid_t pid = fork_child(program, argv, environment, pipe_ends[1]);
    int number = errno;
    close(pipe_ends[1]);
    free(environment);

    if (pid < 0) {
        close(pipe_ends[0]);
        child_client_free(client);
        return error_set_errno(error, ERROR_IO, number, "model \"%s\": starting a process", name);
    }

    *process = (struct process){
        .pid = pid,
        .port = port,
        .client = client,
        .output = pipe_ends[0],
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
        kill(process->pid, SIGTERM);
        process->kill_ns = clock_ns() + LEAVE_SECONDS * SECOND_NS;
        supervisor->leaving = leaving;
        leaving[supervisor->leaving_count++] = *process;
    }

    *process = (struct process){.output = -1};
}
