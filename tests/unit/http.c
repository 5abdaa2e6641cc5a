/* http.c -- the HTTP server against libcurl: bodies, ranges of files, TLS, limits; URLs. */
#include "http/http.h"
#include "http/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct answer {
	long status;
	char body[65536];
	size_t len;
	char fields[8192];
	size_t fields_len;
	curl_off_t content_length;
	long connects;
	CURLcode rc;
};

static size_t
take_body(char *data, size_t size, size_t n, void *ctx)
{
	struct answer *a = ctx;

	n *= size;
	if (n > sizeof(a->body) - 1 - a->len)
		return 0;
	memcpy(a->body + a->len, data, n);
	a->len += n;
	a->body[a->len] = '\0';
	return n;
}

static size_t
take_field(char *data, size_t size, size_t n, void *ctx)
{
	struct answer *a = ctx;

	n *= size;
	if (n > sizeof(a->fields) - 1 - a->fields_len)
		return 0;
	memcpy(a->fields + a->fields_len, data, n);
	a->fields_len += n;
	a->fields[a->fields_len] = '\0';
	return n;
}

static void
perform(CURL *curl, struct answer *a)
{
	memset(a, 0, sizeof(*a));
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, a);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_field);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, a);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, 20L);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	a->rc = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &a->status);
	curl_easy_getinfo(curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &a->content_length);
	curl_easy_getinfo(curl, CURLINFO_NUM_CONNECTS, &a->connects);
}

static char file_path[64];

static void
handle(void *ctx, const struct sp_http_request *request, struct sp_http_reply *reply)
{
	char text[2048], *name;
	int len;

	(void)ctx;
	if (strcmp(request->path, "/file") == 0) {
		int fd = open(file_path, O_RDONLY | O_CLOEXEC);

		sp_http_reply_field(reply, "X-Kind", "%s", "file");
		sp_http_reply_fd(reply, 206, fd, 3, 4);
		return;
	}
	if (strcmp(request->path, "/silent") == 0)
		return;
	if (strcmp(request->path, "/inject") == 0) {
		sp_http_reply_body(reply, 200, "text/plain", "x", 1);
		sp_http_reply_field(reply, "X-Bad", "%s", "a\r\nSet-Cookie: b");
		return;
	}
	name = sp_http_query(request, "name");
	len = snprintf(text, sizeof(text), "%s %s name=%s agent=%s peer=%s body=%.*s",
	    request->method, request->path, name != NULL ? name : "-",
	    sp_http_header(request, "x-agent") != NULL ? sp_http_header(request, "x-agent") : "-",
	    request->peer, (int)request->body_len, (const char *)request->body);
	free(name);
	sp_http_reply_body(reply, 200, "text/plain", text, (size_t)len);
}

static struct sp_http *
start(const char *cert, const char *key)
{
	struct sp_http_options options = {.listen = "127.0.0.1:0",
	    .cert_file = cert,
	    .key_file = key,
	    .threads = 2,
	    .body_max = 1000,
	    .handler = handle};
	struct sp_http *http = NULL;
	struct sp_err err;

	if (sp_http_start(&options, &http, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_true(sp_http_port(http) > 0);
	return http;
}

static CURL *
aim(CURL *curl, const struct sp_http *http, const char *scheme, const char *path)
{
	char url[256];

	snprintf(url, sizeof(url), "%s://127.0.0.1:%u%s", scheme, sp_http_port(http), path);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	return curl;
}

static void
test_requests(void **state)
{
	struct sp_http *http = start(NULL, NULL);
	struct answer *a = calloc(1, sizeof(*a));
	struct curl_slist *list = curl_slist_append(NULL, "X-Agent: seven");
	CURL *curl = curl_easy_init();

	(void)state;
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
	perform(aim(curl, http, "http", "/a%2Fb/c?x=1&name=two%20words%26+more"), a);
	assert_int_equal(a->rc, CURLE_OK);
	assert_int_equal(a->status, 200);
	assert_string_equal(
	    a->body, "GET /a%2Fb/c name=two words& more agent=seven peer=127.0.0.1 body=");

	/* the connection is kept */
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "k=v");
	perform(aim(curl, http, "http", "/post"), a);
	assert_int_equal(a->connects, 0);
	assert_string_equal(a->body, "POST /post name=- agent=seven peer=127.0.0.1 body=k=v");

	curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
	curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
	perform(aim(curl, http, "http", "/head"), a);
	assert_int_equal(a->status, 200);
	assert_int_equal(a->len, 0);
	assert_int_equal(
	    a->content_length, strlen("HEAD /head name=- agent=seven peer=127.0.0.1 body="));

	curl_easy_cleanup(curl);
	curl_slist_free_all(list);
	sp_http_stop(&http);
	assert_null(http);
	free(a);
}

static void
test_file(void **state)
{
	struct sp_http *http = start(NULL, NULL);
	struct answer *a = calloc(1, sizeof(*a));
	CURL *curl = curl_easy_init();
	int fd;

	(void)state;
	snprintf(file_path, sizeof(file_path), "/tmp/sp-http-XXXXXX");
	fd = mkstemp(file_path);
	assert_int_equal(write(fd, "0123456789", 10), 10);
	close(fd);
	perform(aim(curl, http, "http", "/file"), a);
	assert_int_equal(a->status, 206);
	assert_string_equal(a->body, "3456");
	assert_non_null(strstr(a->fields, "X-Kind: file\r\n"));
	curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
	perform(aim(curl, http, "http", "/file"), a);
	assert_int_equal(a->content_length, 4);
	assert_int_equal(a->len, 0);
	unlink(file_path);
	curl_easy_cleanup(curl);
	sp_http_stop(&http);
	free(a);
}

static size_t
endless(char *out, size_t size, size_t n, void *ctx)
{
	(void)ctx;
	memset(out, 'x', size * n);
	return size * n;
}

static void
test_limits(void **state)
{
	struct sp_http *http = start(NULL, NULL);
	struct answer *a = calloc(1, sizeof(*a));
	CURL *curl = curl_easy_init();
	char *big = calloc(1, 70000);

	(void)state;
	memset(big, 'b', 1000);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, big);
	perform(aim(curl, http, "http", "/"), a);
	assert_int_equal(a->status, 200);
	memset(big, 'b', 1001);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, big);
	perform(aim(curl, http, "http", "/"), a);
	assert_int_equal(a->status, 413);
	assert_non_null(strstr(a->body, "1000 bytes"));
	curl_easy_cleanup(curl);

	/* chunked and without end: cut off */
	curl = curl_easy_init();
	curl_easy_setopt(curl, CURLOPT_POST, 1L);
	curl_easy_setopt(curl, CURLOPT_READFUNCTION, endless);
	perform(aim(curl, http, "http", "/"), a);
	assert_int_not_equal(a->rc, CURLE_OK);
	assert_int_not_equal(a->rc, CURLE_OPERATION_TIMEDOUT);
	curl_easy_cleanup(curl);

	/* a head larger than the limit is refused; the server goes on */
	curl = curl_easy_init();
	memset(big, 'h', 60000);
	big[0] = '/';
	perform(aim(curl, http, "http", "/small"), a);
	assert_int_equal(a->status, 200);
	{
		char *url = malloc(70000);

		snprintf(url, 70000, "http://127.0.0.1:%u%s", sp_http_port(http), big);
		curl_easy_setopt(curl, CURLOPT_URL, url);
		perform(curl, a);
		assert_true(a->status == 414 || a->status == 431 || a->rc != CURLE_OK);
		free(url);
	}
	perform(aim(curl, http, "http", "/silent"), a);
	assert_int_equal(a->status, 500);
	perform(aim(curl, http, "http", "/inject"), a);
	assert_int_equal(a->status, 500);
	assert_null(strstr(a->fields, "Set-Cookie"));
	perform(aim(curl, http, "http", "/after"), a);
	assert_int_equal(a->status, 200);
	curl_easy_cleanup(curl);
	sp_http_stop(&http);
	free(big);
	free(a);
}

/* A connection that has begun a request and does not end it. */
static int
hold(const struct sp_http *http)
{
	static const char head[] = "GET / HTTP/1.1\r\nHost: ";
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at.sin_port = htons((uint16_t)sp_http_port(http));
	assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(send(fd, head, sizeof(head) - 1, MSG_NOSIGNAL), sizeof(head) - 1);
	return fd;
}

/* One address that holds on to its connections takes half of them at most. */
static void
test_one_address(void **state)
{
	struct sp_http_options options = {.listen = "127.0.0.1:0",
	    .threads = 1, /* accepts in order */
	    .connections = 8,
	    .handler = handle};
	struct answer *a = calloc(1, sizeof(*a));
	CURL *curl = curl_easy_init();
	struct sp_http *http = NULL;
	struct sp_err err;
	int fds[4];

	(void)state;
	if (sp_http_start(&options, &http, &err) != SP_OK)
		fail_msg("%s", err.msg);
	for (int i = 0; i < 4; i++)
		fds[i] = hold(http);
	perform(aim(curl, http, "http", "/"), a);
	assert_int_not_equal(a->rc, CURLE_OK);
	curl_easy_setopt(curl, CURLOPT_INTERFACE, "127.0.0.2");
	perform(aim(curl, http, "http", "/"), a);
	assert_int_equal(a->rc, CURLE_OK);
	assert_non_null(strstr(a->body, "peer=127.0.0.2"));
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	curl_easy_cleanup(curl);
	sp_http_stop(&http);
	free(a);
}

static void
save(const char *path, const gnutls_datum_t *pem)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(pem->data, 1, pem->size, f), pem->size);
	assert_int_equal(fclose(f), 0);
}

/* A certificate for 127.0.0.1 by its own key. */
static void
make_pair(const char *cert_path, const char *key_path)
{
	static const unsigned char ip[4] = {127, 0, 0, 1};
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t crt;
	gnutls_datum_t pem;

	assert_int_equal(gnutls_x509_privkey_init(&key), 0);
	assert_int_equal(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
			     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
	    0);
	assert_int_equal(gnutls_x509_crt_init(&crt), 0);
	gnutls_x509_crt_set_version(crt, 3);
	gnutls_x509_crt_set_serial(crt, "\x01", 1);
	gnutls_x509_crt_set_activation_time(crt, time(NULL) - 60);
	gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 3600);
	gnutls_x509_crt_set_dn(crt, "CN=test", NULL);
	gnutls_x509_crt_set_subject_alt_name(
	    crt, GNUTLS_SAN_IPADDRESS, ip, sizeof(ip), GNUTLS_FSAN_SET);
	gnutls_x509_crt_set_ca_status(crt, 1);
	gnutls_x509_crt_set_key(crt, key);
	assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
	assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), 0);
	save(cert_path, &pem);
	gnutls_free(pem.data);
	assert_int_equal(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), 0);
	save(key_path, &pem);
	gnutls_free(pem.data);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
}

#define LARGE (8 << 20) /* more than any socket's buffer */

/* From clients that send all of it before they look for an answer. */
static void
too_large_is_answered(struct sp_http *http, const char *ca_file)
{
	struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
	struct answer *a = calloc(1, sizeof(*a));
	char *large = malloc(LARGE);

	memset(large, 'l', LARGE);
	for (unsigned i = 0; i < 3; i++) {
		CURL *curl = curl_easy_init();

		curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file);
		curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)LARGE);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, large);
		perform(aim(curl, http, "https", "/"), a);
		assert_int_equal(a->status, 413);
		curl_easy_cleanup(curl);
	}
	curl_slist_free_all(headers);
	free(large);
	free(a);
}

static void
test_tls(void **state)
{
	char dir[] = "/tmp/sp-http-XXXXXX", cert[64], key[64];
	struct sp_http_options bad = {.listen = "127.0.0.1:0", .handler = handle};
	struct answer *a = calloc(1, sizeof(*a));
	struct sp_http *http;
	CURL *curl = curl_easy_init();
	struct sp_err err;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(cert, sizeof(cert), "%s/tls.crt", dir);
	snprintf(key, sizeof(key), "%s/tls.key", dir);
	make_pair(cert, key);
	http = start(cert, key);
	curl_easy_setopt(curl, CURLOPT_CAINFO, cert);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "{}");
	perform(aim(curl, http, "https", "/admit"), a);
	assert_int_equal(a->rc, CURLE_OK);
	assert_non_null(strstr(a->body, "POST /admit"));
	/* a client that does not know the certificate, and one that speaks no TLS */
	curl_easy_setopt(curl, CURLOPT_CAINFO, NULL);
	perform(aim(curl, http, "https", "/admit"), a);
	assert_int_equal(a->rc, CURLE_PEER_FAILED_VERIFICATION);
	perform(aim(curl, http, "http", "/admit"), a);
	assert_int_not_equal(a->rc, CURLE_OK);
	curl_easy_cleanup(curl);
	too_large_is_answered(http, cert);
	sp_http_stop(&http);

	bad.cert_file = cert;
	bad.key_file = cert;
	assert_int_equal(sp_http_start(&bad, &http, &err), SP_E_CONFIG);
	assert_non_null(strstr(err.msg, cert));
	assert_null(http);
	bad.key_file = "/nonexistent";
	assert_int_equal(sp_http_start(&bad, &http, &err), SP_E_NOT_FOUND);
	bad.cert_file = NULL;
	bad.listen = "127.0.0.1";
	assert_int_equal(sp_http_start(&bad, &http, &err), SP_E_CONFIG);
	bad.listen = "192.0.2.1:1"; /* TEST-NET-1: no address of this machine */
	assert_int_not_equal(sp_http_start(&bad, &http, &err), SP_OK);
	assert_null(http);
	unlink(cert);
	unlink(key);
	rmdir(dir);
	free(a);
}

static void
test_url(void **state)
{
	struct sp_err err;
	unsigned port;
	char *s;

	(void)state;
	s = sp_url_encode("refs/pr/1 \xc3\xa9", 0);
	assert_string_equal(s, "refs%2Fpr%2F1%20%C3%A9");
	free(s);
	s = sp_url_encode("a b/c", 1);
	assert_string_equal(s, "a%20b/c");
	free(s);
	assert_null(sp_url_decode("%", 1, 0));
	assert_null(sp_url_decode("%4", 2, 0));
	assert_null(sp_url_decode("%zz", 3, 0));
	assert_null(sp_url_decode("a%00b", 5, 0));
	s = sp_url_param("paths=a%2Fb&expand=False&paths=c+d&e", 36, "expand");
	assert_string_equal(s, "False");
	free(s);
	s = sp_url_param("paths=c+d&e", 11, "paths");
	assert_string_equal(s, "c d");
	free(s);
	s = sp_url_param("paths=c+d&e", 11, "e");
	assert_string_equal(s, "");
	free(s);
	assert_null(sp_url_param("paths=a", 7, "path"));
	assert_null(sp_url_param("", 0, "path"));
	assert_null(sp_url_param("a=%zz", 5, "a"));

	assert_true(sp_url_same_origin("http://Hub.example/x", "http://hub.EXAMPLE:80/y"));
	assert_false(sp_url_same_origin("http://hub.example/x", "https://hub.example/x"));
	assert_false(sp_url_same_origin("http://hub.example", "http://hub.example:81"));
	assert_false(sp_url_same_origin("http://hub.example", "http://hub.example.evil"));
	assert_false(sp_url_same_origin("http://hub.example", "http://hub.example@evil/"));
	assert_int_equal(sp_url_origin_len("http://user@host/"), 0);
	assert_int_equal(sp_url_origin_len("http://host:99999/"), 0);
	assert_int_equal(sp_url_origin_len("ftp://host/"), 0);
	assert_int_equal(sp_url_origin_len("http:///x"), 0);
	assert_int_equal(sp_url_origin_len("https://[::1]:8443/x"), 18);

	s = sp_url_resolve("http://h:1/a/b", "/c?d");
	assert_string_equal(s, "http://h:1/c?d");
	free(s);
	s = sp_url_resolve("http://h:1/a/b", "https://other/c");
	assert_string_equal(s, "https://other/c");
	free(s);
	assert_null(sp_url_resolve("http://h:1/a", "//other/c"));
	assert_null(sp_url_resolve("http://h:1/a", "file:///etc/passwd"));
	assert_null(sp_url_resolve("http://h:1/a", "/c\r\nX: y"));
	assert_null(sp_url_resolve("http://h:1/a", "/\\other"));
	assert_null(sp_url_resolve("http://h:1/a", "b"));

	assert_int_equal(sp_url_split_host("[::1]:80", &s, &port, &err), SP_OK);
	assert_string_equal(s, "::1");
	assert_int_equal(port, 80);
	free(s);
	assert_int_equal(sp_url_split_host("::1:80", &s, &port, &err), SP_E_INVALID);
	assert_int_equal(sp_url_split_host("host:", &s, &port, &err), SP_E_INVALID);
	assert_int_equal(sp_url_split_host("host:65536", &s, &port, &err), SP_E_INVALID);
	assert_int_equal(sp_url_split_host(":80", &s, &port, &err), SP_E_INVALID);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_requests),
	    cmocka_unit_test(test_file),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_one_address),
	    cmocka_unit_test(test_tls),
	    cmocka_unit_test(test_url),
	};

	curl_global_init(CURL_GLOBAL_DEFAULT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
