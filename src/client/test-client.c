/* SPDX-License-Identifier: Apache-2.0 */
/* The signature against known vectors, parameters, endpoints, and what replies mean. */
#include "client-private.h"

#include <string.h>

#include "harness/test.h"

static const char vector_secret[] = "testsecretkeytestsecretkey0000000000000A";

static void fill_vector(struct client_params *params) {
    static const char *const pairs[][2] = {
        {"access_key_id", "TESTACCESSKEY0000001"},
        {"action", "RunInstances"},
        {"zone", "test1a"},
        {"time_stamp", "2030-01-02T03:04:05Z"},
        {"version", "1"},
        {"signature_method", "HmacSHA256"},
        {"signature_version", "1"},
        {"image_id", "debian91x64"},
        {"cpu", "2"},
        {"memory", "4096"},
        {"count", "1"},
        {"instance_name", "web 01/测试*~"},
        {"login_mode", "passwd"},
        {"login_passwd", "P@ss+w0rd=&1"},
        {"vxnets.1", "vxnet-0"},
        {"volumes.1", "vol-a1b2c3d4"},
        {"hostname", ""},
        {"req_id", "0123456789abcdef0123456789abcdef"},
    };

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        client_param(params, pairs[i][0], pairs[i][1]);
}

static void test_signature(void) {
    static const struct {
        const char *method, *path, *signature;
    } rows[] = {
        {"GET", "/iaas/", "6eYTXuJyTHA5iSN7k%2BZMbLjkeq5kLFw7cXk83KbC4cQ%3D"},
        {"GET", "/iaas", "o%2Fobjc%2F9aY5dAnLulxBQWB0gtNt5Jai%2FHjOB4hlFMog%3D"},
        {"POST", "/iaas/", "FvmjF%2FPK%2B9n2%2FYbv5fvBr18qNKjEqSgBV4SPAWxCw2w%3D"},
        {"POST", "/iaas", "8VAMzZ1OXJz%2FAxlj36buDaePheL0nkQf6EeGPuTnVyA%3D"},
    };
    IM_AUTO(client_params_done) struct client_params params = {0};

    fill_vector(&params);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        IM_AUTO(free_auto)
        char *query = client_signed_query(rows[i].method, rows[i].path, &params, vector_secret);
        IM_AUTO(free_auto) char *end = im_printf("&signature=%s", rows[i].signature);

        check(im_ends_with(query, end), "%s %s is signed as the vector says", rows[i].method,
              rows[i].path);
        check(strstr(query, "instance_name=web%2001%2F%E6%B5%8B%E8%AF%95%2A~&") != NULL,
              "blanks, slashes, stars and UTF-8 are encoded as the signature wants");
    }
}

static void test_params(void) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(im_strings_done) struct im_strings list = {0};
    IM_AUTO(free_auto) char *text = NULL;

    im_strings_split(&list, "b a", " ");
    client_param(&params, "x", NULL);
    client_param(&params, "count", "1");
    client_param(&params, "count", "2");
    client_param_int(&params, "cpu", 16);
    client_param_list(&params, "ids", &list);
    client_param_list(&params, "ids", &list);
    text = client_canonical(&params);
    check(strcmp(text, "count=2&cpu=16&ids.1=b&ids.2=a&ids.3=b&ids.4=a") == 0,
          "sorted, the last of a name wins, lists are numbered on, NULL is left out: %s", text);
}

static void check_endpoint(const char *given, const char *endpoint, const char *prefix) {
    struct im_err err = {0};
    IM_AUTO(client_close_auto) struct client *client = client_open(given, "k", "s", "z", &err);

    if (endpoint == NULL) {
        check(client == NULL && err.code == IM_BAD_MESSAGE, "%s is refused", given);
        return;
    }
    check(client != NULL && strcmp(client_endpoint(client), endpoint) == 0 &&
              strcmp(client->prefix, prefix) == 0,
          "%s means %s, got %s", given, endpoint, client ? client_endpoint(client) : err.text);
}

static void test_endpoints(void) {
    check_endpoint("http://127.0.0.1:7200/iaas/", "http://127.0.0.1:7200/iaas/", "");
    check_endpoint("http://127.0.0.1:7200", "http://127.0.0.1:7200/iaas/", "");
    check_endpoint("127.0.0.1:7200", "http://127.0.0.1:7200/iaas/", "");
    check_endpoint("https://cloud.example/lab/iaas", "https://cloud.example/lab/iaas/", "/lab");
    check_endpoint("http://[::1]:7200/iaas/", "http://[::1]:7200/iaas/", "");
    check_endpoint("ftp://127.0.0.1/", NULL, NULL);
    check_endpoint("http://", NULL, NULL);
}

static void test_codes(void) {
    check(client_code(1400, "PermissionDenied, instance [i-2aypaijz] is not running, can not be "
                            "stopped") == IM_WRONG_STATE,
          "a state that does not allow it is a conflict");
    check(client_code(1400, "PermissionDenied, resource [vol-xxxxxxxx] lease info not ready yet, "
                            "please try later") == IM_WRONG_STATE,
          "so is what is not ready yet");
    check(client_code(1400, "PermissionDenied, access denied for zone [pek1]") == IM_DENIED,
          "another zone is denied");
    check(client_code(2100, "") == IM_NOT_FOUND, "2100 is not found");
    check(client_code(2110, "") == IM_EXISTS, "2110 exists");
    check(client_code(1200, "") == IM_AUTH, "1200 is about the key");
    check(client_code(5100, "") == IM_BUSY, "5100 is busy, not a time-out of ours");
    check(client_code(77, "") == IM_INTERNAL, "an unknown number is an internal error");
}

static bool reply(struct client *client, const char *text, struct im_err *err) {
    return client_reply(client, 200, text, strlen(text), NULL, err);
}

static void test_replies(void) {
    struct im_err err = {0};
    IM_AUTO(client_close_auto) struct client *client = client_open("h:1", "k", "s", "z", &err);

    check(reply(client, "{\"action\":\"XResponse\",\"ret_code\":0}", &err),
          "ret_code 0 is success");
    check(!reply(client, "{\"message\":\"ResourceNotFound, no image [x]\",\"ret_code\":2100}",
                 &err) &&
              strcmp(err.text, "ResourceNotFound, no image [x]") == 0 &&
              client_fault(client) == CLIENT_ANSWERED && client_ret_code(client) == 2100,
          "a refusal is told word for word");
    check(!reply(client, "<html>it works</html>", &err) && client_fault(client) == CLIENT_FOREIGN,
          "a page is no reply of the API");
    check(!reply(client, "{\"ret_code\":\"0\"}", &err) && client_fault(client) == CLIENT_FOREIGN,
          "neither is a ret_code that is no integer");
    check(!reply(client, "", &err), "nor nothing");
}

int main(void) {
    test_signature();
    test_params();
    test_endpoints();
    test_codes();
    test_replies();
    return test_end();
}
