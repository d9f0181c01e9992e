// citykeep by java.net.http and javax.crypto, Java 17. Arguments: URL PKI LICENCE FIRST KBPK DAY VKEY OUT (see README.md).
//
// Java reads no PEM keys, so each client's certificate and key become a PKCS#12 file, and the CA a trust store:
//   openssl pkcs12 -export -in line.pem -inkey line.key -name line -passout pass:practice -out line.p12
//   openssl pkcs12 -export -in clearing.pem -inkey clearing.key -name clearing -passout pass:practice -out clearing.p12
//   keytool -importcert -noprompt -alias ca -file ca.pem -storetype PKCS12 -storepass practice -keystore trust.p12

import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.crypto.Cipher;
import javax.crypto.spec.IvParameterSpec;
import javax.crypto.spec.SecretKeySpec;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public final class Sample {
    private static final HexFormat HEX = HexFormat.of().withUpperCase();
    private static final char[] PASSWORD = "practice".toCharArray();

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0], licence = arguments[2], first = arguments[3];
        Path pki = Path.of(arguments[1]), day = Path.of(arguments[5]), out = Path.of(arguments[7]);
        byte[] kbpk = HEX.parseHex(arguments[4].toUpperCase());
        HttpClient line = client(pki, "line"), clearing = client(pki, "clearing");

        HttpResponse<String> status = good(line.send(get(url + "/v1/status"), BodyHandlers.ofString()));
        System.out.println("status: " + field(status.body(), "state"));

        List<String> cards = new ArrayList<>();
        for (int n = 0; n < 10; n++) {
            cards.add("{\"serial\":\"%020d\"}".formatted(new java.math.BigInteger(first).add(java.math.BigInteger.valueOf(n))));
        }
        String body = "{\"licence\":\"%s\",\"form\":\"tr31\",\"cards\":[%s]}".formatted(licence, String.join(",", cards));
        HttpRequest ask = post(url + "/v1/cards/keys", "application/json", BodyPublishers.ofString(body));
        String sets = good(line.send(ask, BodyHandlers.ofString())).body();
        System.out.println("key sets: 10 cards, " + check(sets, kbpk) + " 3DES keys unwrapped, check values good");

        HttpRequest send = post(url + "/v1/settlement/verify", "text/plain", BodyPublishers.ofFile(day));
        HttpResponse<String> verdicts = good(clearing.send(send, BodyHandlers.ofString()));
        String batch = verdicts.headers().firstValue("citykeep-batch").orElseThrow();
        String receipt = good(clearing.send(get(url + "/v1/receipts/" + batch), BodyHandlers.ofString())).body();
        Files.writeString(out.resolve("verdicts.csv"), verdicts.body());
        Files.writeString(out.resolve("receipt.json"), receipt);
        int verified = new ProcessBuilder("citykeep", "receipt", "verify", "--receipt", out.resolve("receipt.json").toString(),
                "--vkey", arguments[6], "--day", day.toString(), "--verdicts", out.resolve("verdicts.csv").toString())
                .redirectOutput(ProcessBuilder.Redirect.DISCARD).redirectError(ProcessBuilder.Redirect.INHERIT).start().waitFor();
        if (verified != 0) {
            throw new IllegalStateException("the receipt is wrong");
        }
        System.out.println("day: " + (verdicts.body().lines().count() - 1) + " verdicts, the receipt is good");
    }

    /** Compares the digest over all cards, and unwraps what javax.crypto has a cipher for: 3DES. SM4 needs a provider. */
    private static int check(String sets, byte[] kbpk) throws Exception {
        List<String> algorithms = all(sets, "\"algorithm\":\"([^\"]+)\"");
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        int checked = 0;
        for (String card : all(sets, "(\\{\"serial\":\"[^\\]]+\\])")) {
            digest.update(HEX.parseHex(field(card, "serial")));
            List<String> kcvs = all(card, "\"kcv\":\"([^\"]+)\""), blocks = all(card, "\"block\":\"([^\"]+)\"");
            for (int role = 0; role < algorithms.size(); role++) {
                digest.update(HEX.parseHex(kcvs.get(role)));
                if (algorithms.get(role).equals("3des")) {
                    byte[] key = unwrap(kbpk, blocks.get(role));
                    byte[] three = Arrays.copyOf(key, 24);
                    System.arraycopy(key, 0, three, 16, 8);
                    Cipher cipher = Cipher.getInstance("DESede/ECB/NoPadding");
                    cipher.init(Cipher.ENCRYPT_MODE, new SecretKeySpec(three, "DESede"));
                    String kcv = HEX.formatHex(Arrays.copyOf(cipher.doFinal(new byte[8]), 3));
                    if (!kcv.equals(kcvs.get(role))) {
                        throw new IllegalStateException("check value " + kcvs.get(role) + ", computed " + kcv);
                    }
                    checked++;
                }
            }
        }
        if (!HEX.formatHex(digest.digest()).equals(field(sets, "digest"))) {
            throw new IllegalStateException("the digest is wrong");
        }
        return checked;
    }

    /** TR-31 version D under an AES-128 KBPK. */
    private static byte[] unwrap(byte[] kbpk, String block) throws Exception {
        int end = block.length();
        byte[] mac = HEX.parseHex(block.substring(end - 32)), body = HEX.parseHex(block.substring(end - 96, end - 32));
        byte[] header = block.substring(0, end - 96).getBytes(StandardCharsets.US_ASCII);
        byte[] encryption = cmac(kbpk, HEX.parseHex("0100000000020080"));
        byte[] authentication = cmac(kbpk, HEX.parseHex("0100010000020080"));
        Cipher cipher = Cipher.getInstance("AES/CBC/NoPadding");
        cipher.init(Cipher.DECRYPT_MODE, new SecretKeySpec(encryption, "AES"), new IvParameterSpec(mac));
        byte[] plain = cipher.doFinal(body);
        byte[] covered = Arrays.copyOf(header, header.length + plain.length);
        System.arraycopy(plain, 0, covered, header.length, plain.length);
        if (!MessageDigest.isEqual(cmac(authentication, covered), mac)) {
            throw new IllegalStateException("a block's MAC is wrong");
        }
        return Arrays.copyOfRange(plain, 2, 18);
    }

    /** AES-CMAC, NIST SP 800-38B. */
    private static byte[] cmac(byte[] key, byte[] message) throws Exception {
        Cipher cipher = Cipher.getInstance("AES/ECB/NoPadding");
        cipher.init(Cipher.ENCRYPT_MODE, new SecretKeySpec(key, "AES"));
        byte[] one = doubled(cipher.doFinal(new byte[16])), state = new byte[16];
        boolean whole = message.length > 0 && message.length % 16 == 0;
        int blocks = Math.max(1, (message.length + 15) / 16);
        byte[] padded = Arrays.copyOf(message, blocks * 16);
        if (!whole) {
            padded[message.length] = (byte) 0x80;
        }
        byte[] last = whole ? one : doubled(one);
        for (int at = 0; at < padded.length; at++) {
            state[at % 16] ^= padded[at];
            if (at >= padded.length - 16) {
                state[at % 16] ^= last[at % 16];
            }
            if (at % 16 == 15) {
                state = cipher.doFinal(state);
            }
        }
        return state;
    }

    private static byte[] doubled(byte[] block) {
        byte[] shifted = new byte[16];
        for (int at = 0; at < 16; at++) {
            int next = at == 15 ? 0 : (block[at + 1] & 0xff) >> 7;
            shifted[at] = (byte) (block[at] << 1 | next);
        }
        if (block[0] < 0) {
            shifted[15] ^= (byte) 0x87;
        }
        return shifted;
    }

    private static HttpClient client(Path pki, String name) throws Exception {
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(store(pki.resolve(name + ".p12")), PASSWORD);
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(store(pki.resolve("trust.p12")));
        SSLContext context = SSLContext.getInstance("TLSv1.3");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).sslContext(context).build();
    }

    private static KeyStore store(Path path) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream input = Files.newInputStream(path)) {
            store.load(input, PASSWORD);
        }
        return store;
    }

    private static HttpRequest get(String url) {
        return HttpRequest.newBuilder(URI.create(url)).build();
    }

    private static HttpRequest post(String url, String type, BodyPublisher body) {
        return HttpRequest.newBuilder(URI.create(url)).header("Content-Type", type).POST(body).build();
    }

    private static HttpResponse<String> good(HttpResponse<String> response) {
        if (response.statusCode() != 200) {
            throw new IllegalStateException(response.statusCode() + " " + response.body());
        }
        return response;
    }

    private static String field(String json, String name) {
        return all(json, "\"" + name + "\":\"([^\"]+)\"").get(0);
    }

    private static List<String> all(String text, String pattern) {
        Matcher matcher = Pattern.compile(pattern).matcher(text);
        List<String> found = new ArrayList<>();
        while (matcher.find()) {
            found.add(matcher.group(1));
        }
        return found;
    }
}
