/* SPDX-License-Identifier: Apache-2.0 */
/* Does the guest agent of a machine make programs quiet, too, when it freezes file systems? It runs
 * a hook then, if it was started with one, and no command of it tells. So its own words are asked
 * for, within the guest: what it makes of its arguments and its configuration (-D), whether that
 * hook is there, and, where it is the one of QEMU's that runs what lies in a folder, whether
 * anything lies in it. */
#include "libvirt-private.h"

#include <inttypes.h>
#include <string.h>

#include <jansson.h>
#include <libvirt/libvirt-qemu.h>

#include "base/clock.h"
#include "base/str.h"

IM_DEFINE_AUTO(json_t *, json_decref)

enum { ANSWER_MAX = 4096, POLL_MS = 25, POLL_MAX_MS = 200 };

/* The shell's parent is the agent. The names that are left out are those that QEMU's hook leaves
 * out. */
static const char script[] =
    "a=/proc/$PPID\n"
    "h=$(xargs -0 sh -c \"exec $a/exe \\\"\\$@\\\" -D\" <$a/cmdline | sed -n "
    "'s/^fsfreeze-hook=//p')\n"
    "[ -f \"$h\" ] && [ -x \"$h\" ] || exit 1\n"
    "grep -q 'fsfreeze-hook\\.d' \"$h\" || exit 42\n"
    "for f in \"$(dirname \"$h\")\"/fsfreeze-hook.d/*; do\n"
    "case $f in *~|*.bak|*.orig|*.rpmnew|*.rpmorig|*.rpmsave|*.sample|*.dpkg-*) continue;; esac\n"
    "[ -f \"$f\" ] && [ -x \"$f\" ] && exit 42\n"
    "done\n"
    "exit 1\n";
enum { SCRIPT_YES = 42 };

char *virt_hook_question(void) {
    IM_AUTO(json_decref_auto)
    json_t *question = json_pack("{s:s, s:{s:s, s:[s, s]}}", "execute", "guest-exec", "arguments",
                                 "path", "/bin/sh", "arg", "-c", script);

    return json_dumps(question, JSON_COMPACT);
}

bool virt_hook_answer(int exit_status) { return exit_status == SCRIPT_YES; }

/* The "return" of an answer, the caller's; NULL with `err` set. */
static json_t *ask(struct lv_call *call, const char *question, struct im_err *err) {
    int64_t seconds = ((int64_t) call->number + 999) / 1000;
    IM_AUTO(free_auto)
    char *answer =
        virDomainQemuAgentCommand(call->domain, question, (int) (seconds < 1 ? 1 : seconds), 0);
    IM_AUTO(json_decref_auto) json_t *root = NULL;

    if (answer == NULL) {
        lv_fail(err, "the guest agent runs no command");
        return NULL;
    }
    if (strlen(answer) <= ANSWER_MAX)
        root = json_loads(answer, 0, NULL);
    if (json_is_object(json_object_get(root, "return")))
        return json_incref(json_object_get(root, "return"));
    im_fail(err, IM_INTERNAL, "the guest agent's answer cannot be read");
    return NULL;
}

static bool run_hook(struct lv_call *call, struct im_err *err) {
    int64_t deadline_ms = im_mono_ms() + (int64_t) call->number;
    IM_AUTO(free_auto) char *question = virt_hook_question();
    IM_AUTO(json_decref_auto) json_t *started = NULL;
    IM_AUTO(free_auto) char *poll = NULL;

    if (!lv_need_agent(call->domain, err))
        return false;
    started = ask(call, question, err);
    if (started == NULL)
        return false;
    poll = im_printf("{\"execute\":\"guest-exec-status\",\"arguments\":{\"pid\":%" PRId64 "}}",
                     (int64_t) json_integer_value(json_object_get(started, "pid")));
    for (int64_t pause_ms = POLL_MS; !lv_call_abandoned(call) && im_mono_ms() < deadline_ms;
         pause_ms = pause_ms < POLL_MAX_MS ? 2 * pause_ms : pause_ms) {
        IM_AUTO(json_decref_auto) json_t *status = NULL;

        im_sleep_ms(pause_ms);
        status = ask(call, poll, err);
        if (status == NULL)
            return false;
        if (json_is_true(json_object_get(status, "exited"))) {
            const json_t *code = json_object_get(status, "exitcode");

            call->out_len = /* 1 = yes */
                virt_hook_answer((int) json_integer_value(code));
            return true;
        }
    }
    return im_fail(err, IM_TIMEOUT, "the guest does not tell in time");
}

bool lv_fs_hooked(struct virt_driver *driver, const char *name, int64_t timeout_ms,
                  bool *ret_hooked, struct im_err *err) {
    IM_AUTO(lv_call_unref_auto) struct lv_call *call = NULL;

    if (!lv_call_domain(driver, name, run_hook, NULL, NULL, (uint64_t) timeout_ms, timeout_ms,
                        &call, err))
        return false;
    *ret_hooked = call->out_len != 0;
    return true;
}
