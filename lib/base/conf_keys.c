/* conf_keys.c -- every key of sallyport.conf. sallyport.conf(5) lists them in this order. */
#include "base/conf.h"

#define S SP_CONF_STRING
#define I SP_CONF_INT
#define B SP_CONF_BOOL

const struct sp_conf_key sp_conf_keys[] = {
    {"side", S, NULL, 0, 0, "\"bastion\" or \"enclave\""},
    {"host", S, NULL, 0, 0, "name in the log's origin; default: the machine's host name"},

    {"bus.socket", S, "/run/sallyport/bus.sock", 0, 0, "path: workers' socket"},
    {"bus.tcp", S, NULL, 0, 0, "host:port for workers on other hosts; default: none"},
    {"bus.connect", S, NULL, 0, 0, "host:port of a ledgerd elsewhere; default: bus.socket"},
    {"bus.operators", S, "/run/sallyport/operators.sock", 0, 0, "path: operators' socket"},
    {"bus.snapshots", S, "/run/sallyport/snapshots.sock", 0, 0, "path: published snapshots"},
    {"keys.dir", S, "/etc/sallyport/keys", 0, 0, "path: DAEMON/ROLE.key below it"},
    {"trust.dir", S, "/etc/sallyport/trust", 0, 0, "path: trust.json, root.pin"},
    {"profiles.dir", S, "/etc/sallyport/profiles.d", 0, 0, "path: NAME.conf below it"},
    {"store.dir", S, "/var/lib/sallyport/store", 0, 0, "path: a store per daemon below it"},
    {"state.dir", S, "/var/lib/sallyport/state", 0, 0, "path: a directory per daemon below it"},

    {"ledgerd.heartbeat_ms", I, "1000", 50, 60000, "how often workers report"},
    {"ledgerd.lease_ms", I, "10000", 200, 600000, "a lease not renewed for so long is lost"},
    {"ledgerd.attempts", I, "5", 1, 100, "of a step, before the job is FAILED"},
    {"ledgerd.backoff_ms", I, "1000", 10, 600000, "before the second attempt; doubles"},

    {"fetcherd.endpoint", S, "https://huggingface.co", 0, 0, "of the Hugging Face protocol"},
    {"fetcherd.token_file", S, NULL, 0, 0, "path: token sent to the endpoint, and nowhere else"},
    {"fetcherd.ca_file", S, NULL, 0, 0, "path: certificates that the endpoint's must lead to"},
    {"fetcherd.proxy", S, NULL, 0, 0, "http(s)://host:port, through which everything goes"},
    {"fetcherd.proxy_auth_file", S, NULL, 0, 0, "path: user:password for the proxy"},
    {"fetcherd.parallel", I, "8", 1, 64, "connections at a time"},
    {"fetcherd.rate_mbit_s", I, "0", 0, 1000000, "of all connections; 0: as fast as it goes"},
    {"fetcherd.stall_s", I, "60", 1, 3600, "an answer without bytes for so long has failed"},

    {"quantd.threads", I, "0", 0, 1024, "0: one per processor"},
    {"validatord.threads", I, "0", 0, 1024, "0: one per processor"},
    {"validatord.sandbox", S, "bubblewrap", 0, 0, "\"bubblewrap\" or \"landlock\""},

    {"diode-txd.destination", S, NULL, 0, 0, "host:port of the receiver"},
    {"diode-txd.rate_mbit_s", I, "1000", 1, 100000, "of datagrams"},
    {"diode-txd.parity", I, "32", 1, 127, "parity symbols for 128 source symbols, each pass"},
    {"diode-txd.passes", I, "1", 1, 255, "each with other parity"},
    {"diode-txd.pass_pause_ms", I, "1000", 0, 600000, "between passes"},
    {"diode-txd.heartbeat_ms", I, "1000", 10, 60000, "when idle"},
    {"diode-txd.constant_rate", B, "false", 0, 0, "filler when idle"},
    {"diode-txd.interleave", I, "256", 1, 1024, "codewords sent at the same time"},

    {"diode-rxd.listen", S, NULL, 0, 0, "host:port"},
    {"diode-rxd.destination", S, "enclave", 0, 0, "name that releases for this side carry"},
    {"diode-rxd.spool_max_mib", I, "65536", 16, 1073741824, "of objects not yet verified"},
    {"diode-rxd.memory_max_mib", I, "256", 64, 65536, "of codewords being received"},
    {"diode-rxd.rcvbuf_mib", I, "64", 1, 2047, "asked of the kernel"},
    {"diode-rxd.idle_timeout_ms", I, "10000", 100, 86400000, "transfer without symbols"},
    {"diode-rxd.grace_ms", I, "500", 0, 600000, "from the end of the last pass"},

    {"registryd.listen", S, "127.0.0.1:8780", 0, 0, "host:port of the Hub protocol"},
    {"registryd.standalone", B, "false", 0, 0, "serve the local models alone, without a bus"},
    {"registryd.connections", I, "8192", 8, 1000000, "at the same time"},
    {"registryd.per_address", I, "0", 0, 1000000, "connections of one address; 0: half of them"},
    {"registryd.idle_s", I, "60", 1, 86400, "connection on which nothing moves"},
    {"registryd.local.*.name", S, NULL, 0, 0, "\"org/name\" under which dir is served"},
    {"registryd.local.*.dir", S, NULL, 0, 0, "path: a model's or data set's directory"},
    {"registryd.local.*.kind", S, "model", 0, 0, "\"model\" or \"dataset\""},

    {"admissiond.listen", S, "127.0.0.1:8443", 0, 0, "host:port of the webhook"},
    {"admissiond.tls_cert", S, "/etc/sallyport/tls/tls.crt", 0, 0, "path: PEM chain"},
    {"admissiond.tls_key", S, "/etc/sallyport/tls/tls.key", 0, 0, "path: PEM key"},
    {"admissiond.snapshot_max_age_s", I, "3600", 1, 31536000, "an older snapshot admits nothing"},

    {NULL, S, NULL, 0, 0, NULL},
};
