/* SPDX-License-Identifier: Apache-2.0 */
/* imprint instance console: the terminal and the machine's serial console, joined. The terminal is
 * raw meanwhile and put back on every way out, signals included. */
#include "cli-private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

enum {
    LEAVE = 0x1d,     /* Ctrl-] */
    LINGER_MS = 2000, /* how long answers are waited for after the end of a script's input */
};

static struct termios before;
static volatile sig_atomic_t raw;

static void restore(void) {
    if (raw) {
        raw = 0;
        tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    }
}

static void on_deadly(int number) {
    struct sigaction action = {.sa_handler = SIG_DFL};

    restore();
    sigaction(number, &action, NULL);
    raise(number);
}

/* Also after a crash of ours the shell must be usable. */
static void make_raw(void) {
    static const int deadly[] = {SIGINT,  SIGTERM, SIGHUP, SIGQUIT, SIGSEGV,
                                 SIGABRT, SIGBUS,  SIGFPE, SIGILL};
    struct sigaction action = {.sa_handler = on_deadly};
    struct termios wanted;

    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &before) < 0)
        return;
    atexit(restore);
    for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
        sigaction(deadly[i], &action, NULL);
    wanted = before;
    cfmakeraw(&wanted);
    raw = 1;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &wanted);
}

struct session {
    struct client_console *console;
    bool terminal; /* standard input is one: Ctrl-] leaves */
    bool input_open;
    int64_t heard_ms; /* when the machine last said something */
};

/* From the keyboard to the machine. *ret_leave: Ctrl-] was typed. */
static bool send_typed(struct session *session, bool *ret_leave, struct im_err *err) {
    char bytes[4096];
    ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
    const char *leave;

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    if (n <= 0) {
        session->input_open = false;
        session->heard_ms = im_mono_ms();
        return true;
    }
    leave = session->terminal ? memchr(bytes, LEAVE, (size_t) n) : NULL;
    *ret_leave = leave != NULL;
    if (leave != NULL)
        n = leave - bytes;
    return n == 0 || client_console_write(session->console, bytes, (size_t) n, err);
}

static bool show_heard(struct session *session, bool *ret_open, struct im_err *err) {
    char bytes[16384];
    size_t len = 0;

    do {
        if (!client_console_read(session->console, bytes, sizeof(bytes), &len, ret_open, err))
            return false;
        if (len > 0) {
            session->heard_ms = im_mono_ms();
            if (!im_write_all(STDOUT_FILENO, bytes, len, "standard output", err))
                return false;
        }
    } while (len > 0);
    return true;
}

/* A script's input is over, and the machine has been silent since. */
static bool finished(const struct session *session) {
    return !session->input_open && im_mono_ms() - session->heard_ms > LINGER_MS;
}

static bool join(struct session *session, struct im_err *err) {
    bool open = true, leave = false;

    while (open && !leave && !finished(session) && !cli_interrupted) {
        struct pollfd fds[2] = {{client_console_fd(session->console), POLLIN, 0},
                                {session->input_open ? STDIN_FILENO : -1, POLLIN, 0}};

        if (!client_console_pending(session->console) && poll(fds, 2, 200) < 0 && errno != EINTR)
            return im_fail_sys(err, errno, "cannot wait for the console");
        if (fds[1].revents != 0 && !send_typed(session, &leave, err))
            return false;
        if (!show_heard(session, &open, err))
            return false;
    }
    return true;
}

bool cli_instance_console(struct cli *cli, struct im_err *err) {
    const char *id = cli->args.items[0];
    IM_AUTO(client_console_close_auto) struct client_console *console = NULL;
    struct session session = {
        .terminal = isatty(STDIN_FILENO), .input_open = true, .heard_ms = im_mono_ms()};
    bool passed;

    if (cli_client(cli, err) == NULL)
        return false;
    console = client_console(cli->client, id, err);
    if (console == NULL) {
        if (err->code == IM_WRONG_STATE)
            cli_hint(cli, "imprint instance start %s --wait", id);
        return false;
    }
    session.console = console;
    /* Before anything is said: who answers at once must not have it echoed and kept by the
     * terminal. */
    if (session.terminal)
        make_raw();
    else
        cli_catch_interrupts();
    if (session.terminal && !cli->quiet)
        fprintf(stderr, "serial console of %s; Ctrl-] leaves, Enter may wake it up\r\n", id);
    passed = join(&session, err);
    restore();
    if (session.terminal && !cli->quiet)
        fprintf(stderr, "\r\nleft the console of %s\n", id);
    return passed;
}
