/* SPDX-License-Identifier: Apache-2.0 */
/* Starts, crashes and ends a PostgreSQL cluster for tests. */
#include "harness/postgres.h"

#include <ftw.h>
#include <glob.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "harness/test.h"

enum { ARGUMENTS_MAX = 32, START_MS = 60000 };

static char folder[64], bin[256];
static pid_t postmaster;

static bool installed(void) {
    glob_t found = {0};
    bool fine = glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) == 0;

    if (fine)
        snprintf(bin, sizeof(bin), "%s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
    return fine;
}

/* The program's arguments, as user postgres when we are root (PostgreSQL refuses to be root). */
static void words(const char *program, const char *const arguments[], char path[512],
                  const char *ret_words[ARGUMENTS_MAX]) {
    size_t count = 0;

    if (geteuid() == 0) {
        static const char *const prefix[] = {"setpriv",          "--reuid=postgres",
                                             "--regid=postgres", "--clear-groups",
                                             "--pdeathsig",      "KILL"};

        for (; count < sizeof(prefix) / sizeof(prefix[0]); count++)
            ret_words[count] = prefix[count];
    }
    snprintf(path, 512, "%s/%s", bin, program);
    ret_words[count++] = path;
    for (; *arguments != NULL; arguments++)
        ret_words[count++] = *arguments;
    ret_words[count] = NULL;
}

static bool run(const char *program, const char *const arguments[], struct im_err *err) {
    const char *argv[ARGUMENTS_MAX];
    char path[512];

    words(program, arguments, path, argv);
    return im_run(argv, NULL, START_MS, NULL, err);
}

static bool launch(struct im_err *err) {
    IM_AUTO(free_auto) char *data = im_printf("%s/data", folder);
    IM_AUTO(free_auto) char *log = im_printf("%s/log", folder);
    const char *argv[ARGUMENTS_MAX];
    char path[512];

    words("postgres", (const char *const[]){"-D", data, NULL}, path, argv);
    if (!im_start(argv, log, &postmaster, err))
        return false;
    for (int64_t deadline = im_mono_ms() + START_MS; im_mono_ms() < deadline; im_sleep_ms(50)) {
        if (waitpid(postmaster, NULL, WNOHANG) == postmaster) {
            postmaster = 0;
            return im_fail(err, IM_INTERNAL, "postgres ended, see %s", log);
        }
        *err = (struct im_err){0};
        if (run("pg_isready", (const char *const[]){"-q", "-h", folder, NULL}, err))
            return true;
    }
    return false;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    (void) st, (void) flag, (void) ftw;
    return remove(path);
}

static pid_t owner;

static void stop(void) {
    if (getpid() != owner)
        return;
    if (postmaster > 0) {
        kill(postmaster, SIGQUIT);
        waitpid(postmaster, NULL, 0);
    }
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static bool make(struct im_err *err) {
    static const char settings[] = "listen_addresses=''\nfsync=off\nmax_connections=50\n";
    IM_AUTO(free_auto) char *data = im_printf("%s/data", folder);
    IM_AUTO(free_auto) char *path = im_printf("%s/data/postgresql.conf", folder);
    IM_AUTO(free_auto) char *text = im_printf("%sunix_socket_directories='%s'\n", settings, folder);
    const struct passwd *user = getpwnam("postgres");

    if (geteuid() == 0 && (user == NULL || chown(folder, user->pw_uid, user->pw_gid) < 0))
        return im_fail(err, IM_INTERNAL, "there is no user postgres");
    if (!run("initdb",
             (const char *const[]){"-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E",
                                   "UTF8", "--locale=C.UTF-8", NULL},
             err) ||
        !im_write_file(path, text, strlen(text), 0644, err))
        return false;
    return launch(err);
}

bool postgres_start(void) {
    struct im_err err = {0};

    if (folder[0] != '\0')
        return postmaster > 0;
    if (!installed()) {
        test_note("PostgreSQL is not installed: its part is skipped");
        return false;
    }
    snprintf(folder, sizeof(folder), "/tmp/imprint-pg-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return false;
    owner = getpid();
    atexit(stop);
    if (make(&err))
        return true;
    test_note("PostgreSQL does not start, its part is skipped: %s", err.text);
    return false;
}

char *postgres_database(const char *name) {
    struct im_err err = {0};

    if (run("createdb", (const char *const[]){"-h", folder, "-U", "postgres", name, NULL}, &err))
        return im_printf("postgresql:host=%s user=postgres dbname=%s", folder, name);
    test_note("%s", err.text);
    return NULL;
}

void postgres_kill(void) {
    kill(postmaster, SIGKILL);
    waitpid(postmaster, NULL, 0);
    postmaster = 0;
}

bool postgres_again(void) {
    struct im_err err = {0};

    /* Its orphans see to it that nobody starts beside them, for a moment. */
    for (int try = 0; try < 50; try++) {
        im_sleep_ms(100);
        if (launch(&err))
            return true;
    }
    test_note("%s", err.text);
    return false;
}

bool postgres_crash(void) {
    postgres_kill();
    return postgres_again();
}
