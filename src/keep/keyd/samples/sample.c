/* citykeep by libcurl and OpenSSL 3. Arguments: URL PKI LICENCE FIRST KBPK DAY VKEY OUT (see README.md).
 * Build: cc -Wall -Wextra -Werror -o sample sample.c -lcurl -lcrypto */
#include <curl/curl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *why) {
    fprintf(stderr, "sample: %s\n", why);
    exit(1);
}

struct text { char *at; size_t len; };

static size_t gather(char *data, size_t size, size_t count, void *to) {
    struct text *text = to;
    text->at = realloc(text->at, text->len + size * count + 1);
    if (!text->at) fail("out of memory");
    memcpy(text->at + text->len, data, size * count);
    text->len += size * count;
    text->at[text->len] = 0;
    return size * count;
}

/* One request on a connection of its own; the answer's body, and its headers if `head` is there. */
static struct text ask(const char *url, const char *path, const char *pki, const char *client, const char *type,
                       const void *body, long length, struct text *head) {
    char address[512], ca[512], cert[512], key[512], header[64];
    snprintf(address, sizeof address, "%s%s", url, path);
    snprintf(ca, sizeof ca, "%s/ca.pem", pki);
    snprintf(cert, sizeof cert, "%s/%s.pem", pki, client);
    snprintf(key, sizeof key, "%s/%s.key", pki, client);
    CURL *curl = curl_easy_init();
    if (!curl) fail("libcurl does not start");
    struct text answer = {0};
    struct curl_slist *headers = NULL;
    curl_easy_setopt(curl, CURLOPT_URL, address);
    curl_easy_setopt(curl, CURLOPT_CAINFO, ca);
    curl_easy_setopt(curl, CURLOPT_SSLCERT, cert);
    curl_easy_setopt(curl, CURLOPT_SSLKEY, key);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, gather);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    if (head) {
        curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, gather);
        curl_easy_setopt(curl, CURLOPT_HEADERDATA, head);
    }
    if (body) {
        snprintf(header, sizeof header, "Content-Type: %s", type);
        headers = curl_slist_append(headers, header);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, length);
    }
    CURLcode outcome = curl_easy_perform(curl);
    if (outcome != CURLE_OK) fail(curl_easy_strerror(outcome));
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) fail(answer.at ? answer.at : "no answer");
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return answer;
}

/* The value of the next "name":"…" at or behind *from, which moves behind it; NULL where there is none before `end`. */
static const char *next(const char **from, const char *end, const char *name, size_t *len) {
    char pattern[64];
    snprintf(pattern, sizeof pattern, "\"%s\":\"", name);
    const char *at = strstr(*from, pattern);
    if (!at || (end && at >= end)) return NULL;
    at += strlen(pattern);
    const char *stop = strchr(at, '"');
    if (!stop) return NULL;
    *len = (size_t)(stop - at);
    *from = stop;
    return at;
}

static size_t unhex(const char *text, size_t len, unsigned char *out, size_t room) {
    if (len % 2 || len / 2 > room) fail("hex of another length was expected");
    for (size_t at = 0; at < len / 2; at++) {
        unsigned byte;
        if (sscanf(text + 2 * at, "%2x", &byte) != 1) fail("that is no hex");
        out[at] = (unsigned char)byte;
    }
    return len / 2;
}

static void cmac(const unsigned char *key, const unsigned char *one, size_t one_len, const unsigned char *two,
                 size_t two_len, unsigned char *out) {
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "CMAC", NULL);
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);
    char cipher[] = "AES-128-CBC";
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0), OSSL_PARAM_construct_end()};
    size_t len = 16;
    if (!EVP_MAC_init(context, key, 16, parameters) || !EVP_MAC_update(context, one, one_len) ||
        (two_len && !EVP_MAC_update(context, two, two_len)) || !EVP_MAC_final(context, out, &len, 16))
        fail("CMAC does not work");
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(mac);
}

static void run_cipher(const EVP_CIPHER *cipher, int encrypt, const unsigned char *key, const unsigned char *iv,
                  const unsigned char *in, int len, unsigned char *out) {
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int made = 0, rest = 0;
    if (!EVP_CipherInit_ex(context, cipher, NULL, key, iv, encrypt) || !EVP_CIPHER_CTX_set_padding(context, 0) ||
        !EVP_CipherUpdate(context, out, &made, in, len) || !EVP_CipherFinal_ex(context, out + made, &rest))
        fail("a cipher does not work");
    EVP_CIPHER_CTX_free(context);
}

/* TR-31 version D under an AES-128 KBPK; gives the key's first 16 bytes. */
static void unwrap(const unsigned char *kbpk, const char *block, size_t len, unsigned char *key) {
    static const unsigned char ENCRYPTION[8] = {1, 0, 0, 0, 0, 2, 0, 0x80}, AUTHENTICATION[8] = {1, 0, 1, 0, 0, 2, 0, 0x80};
    unsigned char kbek[16], kbak[16], mac[16], body[32], plain[48], found[16];
    if (len < 112) fail("a key block is too short");
    cmac(kbpk, ENCRYPTION, 8, NULL, 0, kbek);
    cmac(kbpk, AUTHENTICATION, 8, NULL, 0, kbak);
    unhex(block + len - 32, 32, mac, sizeof mac);
    unhex(block + len - 96, 64, body, sizeof body);
    run_cipher(EVP_aes_128_cbc(), 0, kbek, mac, body, 32, plain);
    cmac(kbak, (const unsigned char *)block, len - 96, plain, 32, found);
    if (memcmp(found, mac, 16) != 0) fail("a block's MAC is wrong");
    memcpy(key, plain + 2, 16);
}

static int check(const char *sets, const unsigned char *kbpk) {
    const char *roles = sets, *cards = strstr(sets, "\"cards\":");
    if (!cards) fail("the answer has no cards");
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    unsigned char bytes[32];
    int checked = 0;
    size_t len;
    for (const char *at = cards, *serial; (serial = next(&at, NULL, "serial", &len));) {
        EVP_DigestUpdate(hash, bytes, unhex(serial, len, bytes, sizeof bytes));
        const char *end = strchr(at, ']'), *kcv, *algorithm;
        size_t kcv_len, block_len, name_len;
        for (roles = sets; (kcv = next(&at, end, "kcv", &kcv_len)); checked++) {
            unsigned char wanted[3], key[16], zero[16] = {0}, found[32];
            const char *block = next(&at, end, "block", &block_len);
            if (!block || !(algorithm = next(&roles, cards, "algorithm", &name_len))) fail("the answer is cut short");
            EVP_DigestUpdate(hash, wanted, unhex(kcv, kcv_len, wanted, sizeof wanted));
            unwrap(kbpk, block, block_len, key);
            int sm4 = strncmp(algorithm, "sm4", 3) == 0;
            run_cipher(sm4 ? EVP_sm4_ecb() : EVP_des_ede_ecb(), 1, key, NULL, zero, sm4 ? 16 : 8, found);
            if (memcmp(found, wanted, 3) != 0) fail("a check value is wrong");
        }
    }
    unsigned char digest[32];
    EVP_DigestFinal_ex(hash, digest, NULL);
    EVP_MD_CTX_free(hash);
    const char *at = sets, *said = next(&at, NULL, "digest", &len);
    if (!said || unhex(said, len, bytes, sizeof bytes) != 32 || memcmp(bytes, digest, 32) != 0) fail("the digest is wrong");
    return checked;
}

static struct text slurp(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    struct text text = {0};
    char part[65536];
    for (size_t got; (got = fread(part, 1, sizeof part, file)) > 0;) gather(part, 1, got, &text);
    fclose(file);
    return text;
}

static void spill(const char *out, const char *name, struct text text, char *path, size_t room) {
    snprintf(path, room, "%s/%s", out, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(text.at, 1, text.len, file) != text.len || fclose(file)) fail(path);
}

int main(int count, char **words) {
    if (count != 9) fail("arguments: URL PKI LICENCE FIRST KBPK DAY VKEY OUT");
    const char *url = words[1], *pki = words[2];
    unsigned char kbpk[16];
    unhex(words[5], strlen(words[5]), kbpk, sizeof kbpk);
    curl_global_init(CURL_GLOBAL_DEFAULT);

    struct text status = ask(url, "/v1/status", pki, "line", NULL, NULL, 0, NULL);
    size_t len;
    const char *at = status.at, *state = next(&at, NULL, "state", &len);
    printf("status: %.*s\n", (int)len, state ? state : "");

    /* Card numbers have 20 digits; their last 18 fit into a long long. */
    char body[1024];
    int used = snprintf(body, sizeof body, "{\"licence\":\"%s\",\"form\":\"tr31\",\"cards\":[", words[3]);
    if (strlen(words[4]) != 20) fail("a card number has 20 digits");
    for (int n = 0; n < 10; n++)
        used += snprintf(body + used, sizeof body - (size_t)used, "%s{\"serial\":\"%.2s%018lld\"}", n ? "," : "", words[4],
                         atoll(words[4] + 2) + n);
    snprintf(body + used, sizeof body - (size_t)used, "]}");
    struct text sets = ask(url, "/v1/cards/keys", pki, "line", "application/json", body, (long)strlen(body), NULL);
    printf("key sets: 10 cards, %d keys unwrapped, check values good\n", check(sets.at, kbpk));

    struct text day = slurp(words[6]), head = {0};
    struct text verdicts = ask(url, "/v1/settlement/verify", pki, "clearing", "text/plain", day.at, (long)day.len, &head);
    char *batch = strstr(head.at, "citykeep-batch: "), path[128];
    if (!batch) fail("the answer names no batch");
    snprintf(path, sizeof path, "/v1/receipts/%.32s", batch + strlen("citykeep-batch: "));
    struct text receipt = ask(url, path, pki, "clearing", NULL, NULL, 0, NULL);
    char verdicts_file[512], receipt_file[512];
    spill(words[8], "verdicts.csv", verdicts, verdicts_file, sizeof verdicts_file);
    spill(words[8], "receipt.json", receipt, receipt_file, sizeof receipt_file);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout)) _exit(126);
        execlp("citykeep", "citykeep", "receipt", "verify", "--receipt", receipt_file, "--vkey", words[7], "--day", words[6],
               "--verdicts", verdicts_file, (char *)NULL);
        _exit(127);
    }
    int outcome = 1;
    if (child < 0 || waitpid(child, &outcome, 0) < 0 || outcome != 0) fail("the receipt is wrong");
    long lines = -1;
    for (size_t n = 0; n < verdicts.len; n++) lines += verdicts.at[n] == '\n';
    printf("day: %ld verdicts, the receipt is good\n", lines);
    return 0;
}
