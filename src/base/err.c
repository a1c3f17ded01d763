/* SPDX-License-Identifier: Apache-2.0 */
/* The error type: filled once where the cause is known, given context on the way up. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int ret;
    const char *type;
    const char *text;
} codes[IM_CODES] = {
#define X(name, ret, type, text) [IM_##name] = {#name, ret, type, text},
    IM_ERR_TABLE(X)
#undef X
};

bool im_fail(struct im_err *err, enum im_code code, const char *format, ...) {
    va_list args;

    err->code = code;
    err->sys = 0;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    return false;
}

bool im_fail_sys(struct im_err *err, int sys, const char *format, ...) {
    char reason[128];
    va_list args;
    size_t used;

    err->code = sys == ENOSPC || sys == EDQUOT || sys == EFBIG ? IM_NO_SPACE : IM_INTERNAL;
    err->sys = sys;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    used = strlen(err->text);
    snprintf(err->text + used, sizeof(err->text) - used, ": %s",
             strerror_r(sys, reason, sizeof(reason)));
    return false;
}

bool im_within(struct im_err *err, const char *format, ...) {
    char inner[sizeof(err->text)];
    va_list args;
    size_t used;

    memcpy(inner, err->text, sizeof(inner));
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    used = strlen(err->text);
    if (inner[0] != '\0')
        snprintf(err->text + used, sizeof(err->text) - used, ": %s", inner);
    return false;
}

int im_code_ret(enum im_code code) { return codes[code].ret; }
const char *im_code_type(enum im_code code) { return codes[code].type; }
const char *im_code_text(enum im_code code) { return codes[code].text; }
const char *im_code_name(enum im_code code) { return codes[code].name; }

enum im_code im_code_from_name(const char *name) {
    for (int i = 0; name != NULL && i < IM_CODES; i++)
        if (strcmp(codes[i].name, name) == 0)
            return (enum im_code) i;
    return IM_INTERNAL;
}
