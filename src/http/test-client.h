/* SPDX-License-Identifier: Apache-2.0 */
/* Signing as clients do, and plain sockets, for the tests of http/. */
#ifndef HTTP_TEST_CLIENT_H
#define HTTP_TEST_CLIENT_H

#include "http-private.h"

/* What http_open() would be given. */
struct http_config test_config(void);
/* Adds the common parameters with the time `age_s` ago and the signature to "name=value&…" that is
 * encoded already; owned. `key` NULL: the administrator's. */
char *test_signed(const char *method, const char *path, const char *query, const char *key,
                  int64_t age_s);
/* Signs text that has all parameters but the signature; owned. */
char *test_sign_raw(const char *method, const char *path, const char *query, bool sha1);

/* One request over a fresh connection to 127.0.0.1: sends `len` bytes as they are and reads until
 * the server closes or nothing comes for 2 s; the answer is owned. */
char *test_talk(int port, const char *bytes, size_t len);
int test_connect(int port);
/* Text of one member of a JSON reply, "" if there is none; static memory. */
int64_t test_ret_code(const char *json);
const char *test_message(const char *json);

#endif
