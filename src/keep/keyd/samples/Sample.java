// citykeep by java.net.http, javax.crypto and java.security, Java 17. Arguments: URL PKI LICENCE FIRST KBPK DAY VKEY OUT
// (see README.md); or, offline, receipt RECEIPT VKEY DAY VERDICTS. Nothing else of citykeep is needed.
//
// The JDK has no SM4. Every block is unwrapped and its MAC checked; check values of SM4 keys are computed only if a provider that has
// SM4 is registered, and the output says how many were not.
//
// Java reads no PEM keys, so each client's certificate and key become a PKCS#12 file, and the CA a trust store:
//   openssl pkcs12 -export -in line.pem -inkey line.key -name line -passout pass:practice -out line.p12
//   openssl pkcs12 -export -in clearing.pem -inkey clearing.key -name clearing -passout pass:practice -out clearing.p12
//   keytool -importcert -noprompt -alias ca -file ca.pem -storetype PKCS12 -storepass practice -keystore trust.p12

import java.io.IOException;
import java.io.InputStream;
import java.math.BigInteger;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.security.Signature;
import java.security.spec.X509EncodedKeySpec;
import java.time.DateTimeException;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
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
        try {
            if (arguments[0].equals("receipt")) {
                Receipt.check(Path.of(arguments[1]), Path.of(arguments[2]), Path.of(arguments[3]), Path.of(arguments[4]));
                System.out.println("the receipt is good 回执有效");
            } else {
                all(arguments);
            }
        } catch (Refused refused) {
            System.err.println("Sample: " + refused.getMessage());
            System.exit(1);
        }
    }

    /** Why there is no result, for people. */
    private static final class Refused extends Exception {
        Refused(String why) {
            super(why);
        }
    }

    private static void all(String[] arguments) throws Exception {
        String url = arguments[0], licence = arguments[2], first = arguments[3];
        Path pki = Path.of(arguments[1]), day = Path.of(arguments[5]), out = Path.of(arguments[7]);
        byte[] kbpk = HEX.parseHex(arguments[4].toUpperCase());
        // Both clients first: nothing is sent unless every file is whole.
        HttpClient line = client(pki, "line"), clearing = client(pki, "clearing");

        HttpResponse<String> status = good(line.send(get(url + "/v1/status"), BodyHandlers.ofString()));
        System.out.println("status: " + field(status.body(), "state"));

        List<String> cards = new ArrayList<>();
        for (int n = 0; n < 10; n++) {
            cards.add("{\"serial\":\"%020d\"}".formatted(new BigInteger(first).add(BigInteger.valueOf(n))));
        }
        String body = "{\"licence\":\"%s\",\"form\":\"tr31\",\"cards\":[%s]}".formatted(licence, String.join(",", cards));
        HttpRequest ask = post(url + "/v1/cards/keys", "application/json", BodyPublishers.ofString(body));
        String sets = good(line.send(ask, BodyHandlers.ofString())).body();
        check(sets, kbpk);

        HttpRequest send = post(url + "/v1/settlement/verify", "text/plain", BodyPublishers.ofFile(day));
        HttpResponse<String> verdicts = good(clearing.send(send, BodyHandlers.ofString()));
        String batch = verdicts.headers().firstValue("citykeep-batch").orElseThrow();
        String receipt = good(clearing.send(get(url + "/v1/receipts/" + batch), BodyHandlers.ofString())).body();
        Files.writeString(out.resolve("verdicts.csv"), verdicts.body());
        Files.writeString(out.resolve("receipt.json"), receipt);
        Receipt.check(out.resolve("receipt.json"), Path.of(arguments[6]), day, out.resolve("verdicts.csv"));
        System.out.println("day: " + (verdicts.body().lines().count() - 1) + " verdicts, the receipt is good");
    }

    /** Compares the digest over all cards, unwraps every key, computes the check values that this Java has a cipher for. */
    private static void check(String sets, byte[] kbpk) throws Exception {
        List<String> algorithms = all(sets, "\"algorithm\":\"([^\"]+)\"");
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        int checked = 0, unknown = 0;
        for (String card : all(sets, "(\\{\"serial\":\"[^\\]]+\\])")) {
            digest.update(HEX.parseHex(field(card, "serial")));
            List<String> kcvs = all(card, "\"kcv\":\"([^\"]+)\""), blocks = all(card, "\"block\":\"([^\"]+)\"");
            for (int role = 0; role < algorithms.size(); role++) {
                digest.update(HEX.parseHex(kcvs.get(role)));
                try {
                    String kcv = kcv(algorithms.get(role), unwrap(kbpk, blocks.get(role)));
                    if (!kcv.equals(kcvs.get(role))) {
                        throw new Refused("check value " + kcvs.get(role) + ", computed " + kcv + ": use none of these keys");
                    }
                    checked++;
                } catch (NoSuchAlgorithmException none) {
                    unknown++;
                }
            }
        }
        if (!HEX.formatHex(digest.digest()).equals(field(sets, "digest"))) {
            throw new Refused("the digest is wrong: use none of these keys");
        }
        System.out.println("key sets: 10 cards, " + (checked + unknown) + " keys unwrapped, " + checked + " check values good");
        if (unknown > 0) {
            System.out.println("NOT CHECKED 未核对: " + unknown + " check values of SM4 keys, since this Java has no SM4;"
                    + " register a provider that has it 请注册支持 SM4 的 provider");
        }
    }

    /** First three bytes of the cipher over zeros. */
    private static String kcv(String algorithm, byte[] key) throws GeneralSecurityException {
        boolean sm4 = algorithm.equals("sm4");
        byte[] whole = sm4 ? key : Arrays.copyOf(key, 24);
        if (!sm4) {
            System.arraycopy(key, 0, whole, 16, 8);
        }
        Cipher cipher = Cipher.getInstance(sm4 ? "SM4/ECB/NoPadding" : "DESede/ECB/NoPadding");
        cipher.init(Cipher.ENCRYPT_MODE, new SecretKeySpec(whole, sm4 ? "SM4" : "DESede"));
        return HEX.formatHex(Arrays.copyOf(cipher.doFinal(new byte[sm4 ? 16 : 8]), 3));
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
            throw new Refused("a block's MAC is wrong: use none of these keys");
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
        keys.init(store(pki.resolve(name + ".p12"), true), PASSWORD);
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(store(pki.resolve("trust.p12"), false));
        SSLContext context = SSLContext.getInstance("TLSv1.3");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).sslContext(context).build();
    }

    /** A whole PKCS#12 with a key or an authority in it, or one sentence: what Java throws at half a file names neither file nor remedy. */
    private static KeyStore store(Path path, boolean key) throws GeneralSecurityException, Refused {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream input = Files.newInputStream(path)) {
            store.load(input, PASSWORD);
            for (String name : Collections.list(store.aliases())) {
                if (key ? store.getKey(name, PASSWORD) != null : store.isCertificateEntry(name)) {
                    return store;
                }
            }
        } catch (IOException | GeneralSecurityException | RuntimeException broken) {
            throw new Refused(path + ": 不是完整的 PKCS#12,或口令不符;未发送任何请求;请重新导出并整份复制。 It is no whole PKCS#12, or has"
                    + " another password; nothing was sent; export it again as the head of this file says, and copy all of it ("
                    + broken.getMessage() + ")");
        }
        throw new Refused(path + ": 其中没有" + (key ? "私钥" : "CA 证书") + ";未发送任何请求;请重新导出。 It holds no "
                + (key ? "private key" : "authority") + "; nothing was sent; export it again as the head of this file says");
    }

    private static HttpRequest get(String url) {
        return HttpRequest.newBuilder(URI.create(url)).build();
    }

    private static HttpRequest post(String url, String type, BodyPublisher body) {
        return HttpRequest.newBuilder(URI.create(url)).header("Content-Type", type).POST(body).build();
    }

    private static HttpResponse<String> good(HttpResponse<String> response) throws Refused {
        if (response.statusCode() != 200) {
            throw new Refused(response.statusCode() + " " + response.body());
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

    /** Checks a receipt offline (wire/SPEC.md 3.2): day and verdicts give a root, the root stands in a log entry, the log's key signed. */
    private static final class Receipt {
        private static final List<String> VERDICTS = List.of("ok", "bad_tac", "unknown_key", "malformed", "withheld");
        /** F1 (service-protocol 5): serial, amount, type, PSAM, sequence, date, time, TAC, key version, issuer. */
        private static final Pattern F1 = Pattern.compile(".{12}([0-9]{20}).{47}(X{8}).{8}(0[69]).{20}(X{12})([0-9]{9}).{9}([0-9]{8})"
                .concat("((?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9])(X{8})(X{2}).{6}(X{16}).{122}").replace("X", "[0-9A-Fa-f]"), Pattern.DOTALL);

        static void check(Path receipt, Path vkey, Path day, Path verdicts) throws Exception {
            try {
                check(Files.readString(receipt), Files.readString(vkey).strip(), Files.readAllBytes(day), Files.readAllLines(verdicts));
            } catch (GeneralSecurityException | RuntimeException broken) {
                throw new Refused("THE RECEIPT IS NOT GOOD 回执无效: " + broken.getMessage() + "; use no verdict and tell operator and auditor");
            }
        }

        private static void need(boolean holds, String why) {
            if (!holds) {
                throw new IllegalArgumentException(why);
            }
        }

        private static void check(String receipt, String vkey, byte[] day, List<String> verdicts) throws Exception {
            String proof = string(receipt, "proof").replace("\\n", "\n").replace("\\u2014", "\u2014");
            int gap = proof.indexOf("\n\n");
            String[] head = proof.substring(0, gap).split("\n");
            need(head[0].equals("c2sp.org/tlog-proof@v1") && head[1].startsWith("index "), "its proof is none");
            long index = Long.parseLong(head[1].substring(6));
            byte[] entry = HEX.parseHex(string(receipt, "entry"));
            String[] signed = open(proof.substring(gap + 2), vkey);
            byte[] root = path(sha(new byte[1], entry), index, Long.parseLong(signed[1]), Arrays.asList(head).subList(2, head.length));
            need(Arrays.equals(root, Base64.getDecoder().decode(signed[2])), "its entry is not in the log");

            // Event 5 is a batch: 0 id, 1 client, 3 lineage, 10 total {0 records, 1 root, 2 counts}, 11 aborted (translog/SPEC.md, Entry).
            ByteBuffer bytes = ByteBuffer.wrap(entry);
            Map<?, ?> fields = (Map<?, ?>) cbor(bytes);
            List<?> kind = (List<?>) fields.get(9L);
            Map<?, ?> event = (Map<?, ?>) kind.get(1), total = (Map<?, ?>) event.get(10L);
            need(!bytes.hasRemaining() && fields.get(1L).equals(index) && kind.get(0).equals(5L) && event.get(11L).equals(false)
                    && total != null, "its entry closes no batch");
            Map<?, ?> counts = (Map<?, ?>) total.get(2L);
            // The counts of the whole batch, not those of a key version.
            String whole = receipt.replaceAll("\"versions\"\\s*:\\s*\\[[^\\]]*\\]", "");
            boolean same = number(whole, "records").equals(total.get(0L));
            for (int at = 0; at < VERDICTS.size(); at++) {
                same &= number(whole, VERDICTS.get(at)).equals(counts.get((long) at));
            }
            same &= Pattern.compile("\"indices\"\\s*:[^\\]]*\\b" + index + "\\s*\\]").matcher(whole).find();
            need(same && string(receipt, "batch").equals(HEX.formatHex((byte[]) event.get(0L)))
                    && string(receipt, "client").equals(event.get(1L)) && string(receipt, "lineage").equals(event.get(3L))
                    && string(receipt, "root").equals(HEX.formatHex((byte[]) total.get(1L))), "it says other things than its entry");
            byte[] own = root(day, verdicts, (String) event.get(3L), (Long) total.get(0L));
            need(Arrays.equals(own, (byte[]) total.get(1L)), "its root is not that of this day and these verdicts");
        }

        private static String string(String json, String name) {
            Matcher found = Pattern.compile("\"" + name + "\"\\s*:\\s*\"([^\"]*)\"").matcher(json);
            need(found.find(), "it has no " + name);
            return found.group(1);
        }

        private static Long number(String json, String name) {
            Matcher found = Pattern.compile("\"" + name + "\"\\s*:\\s*([0-9]+)").matcher(json);
            need(found.find(), "it has no " + name);
            return Long.parseLong(found.group(1));
        }

        /** Origin, size and root of a checkpoint under the log's key (translog/SPEC.md, Note). Lines by others are not judged here. */
        private static String[] open(String note, String vkey) throws Exception {
            String[] parts = vkey.split("\\+", 3);
            byte[] key = Base64.getDecoder().decode(parts[2]);
            byte[] label = Arrays.copyOf(sha((parts[0] + "\n").getBytes(StandardCharsets.UTF_8), key), 4);
            need(key.length == 33 && key[0] == 1 && HEX.formatHex(label).equalsIgnoreCase(parts[1]), "the vkey is none");
            int gap = note.lastIndexOf("\n\n");
            String text = note.substring(0, gap + 1);
            // The raw key behind the head of an Ed25519 SubjectPublicKeyInfo (RFC 8410).
            byte[] spki = Arrays.copyOf(HEX.parseHex("302A300506032B6570032100"), 44);
            System.arraycopy(key, 1, spki, 12, 32);
            Signature ed25519 = Signature.getInstance("Ed25519");
            int ours = 0;
            for (String line : note.substring(gap + 2).split("\n")) {
                byte[] signature = Base64.getDecoder().decode(line.substring(line.lastIndexOf(' ') + 1));
                if (line.startsWith("\u2014 " + parts[0] + " ") && Arrays.equals(Arrays.copyOf(signature, 4), label)) {
                    ed25519.initVerify(KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(spki)));
                    ed25519.update(text.getBytes(StandardCharsets.UTF_8));
                    need(ed25519.verify(signature, 4, signature.length - 4), "its checkpoint was changed, or signed by another key");
                    ours++;
                }
            }
            String[] lines = text.split("\n");
            need(ours > 0 && lines.length == 3 && lines[0].equals(parts[0]), "its checkpoint is not signed by the log's key");
            return lines;
        }

        /** RFC 6962 2.1.1, from the leaf up. */
        private static byte[] path(byte[] node, long at, long size, List<String> path) {
            need(at >= 0 && at < size, "its index is beyond the log");
            int used = 0;
            for (long last = size - 1; last > 0; at >>= 1, last >>= 1) {
                if ((at & 1) == 1 || at < last) { // else it has no sibling on this level
                    byte[] other = Base64.getDecoder().decode(path.get(used++));
                    node = (at & 1) == 1 ? sha(new byte[] {1}, other, node) : sha(new byte[] {1}, node, other);
                }
            }
            need(used == path.size(), "its path is too long");
            return node;
        }

        /** The next value, of the kinds that entries have. */
        private static Object cbor(ByteBuffer data) {
            int head = data.get() & 0xff, major = head >> 5;
            if (major == 7) {
                return head == 0xf5;
            }
            long n = head & 31;
            need(n < 28, "its entry is no entry");
            if (n >= 24) {
                int size = 1 << (n - 24);
                n = 0;
                while (size-- > 0) {
                    n = n << 8 | data.get() & 0xff;
                }
            }
            if (major == 0) {
                return n;
            }
            need(n >= 0 && n <= data.remaining() && major > 1 && major < 6, "its entry is no entry");
            if (major < 4) {
                byte[] bytes = new byte[(int) n];
                data.get(bytes);
                return major == 2 ? bytes : new String(bytes, StandardCharsets.UTF_8);
            }
            List<Object> items = new ArrayList<>();
            Map<Object, Object> map = new HashMap<>();
            while (n-- > 0) {
                Object item = cbor(data);
                if (major == 4) {
                    items.add(item);
                } else {
                    map.put(item, cbor(data));
                }
            }
            return major == 4 ? items : map;
        }

        /** Root over the day's records, their verdicts and the header (wire/SPEC.md 3.1). */
        private static byte[] root(byte[] day, List<String> verdicts, String lineage, long records) {
            String text = new String(day, StandardCharsets.ISO_8859_1);
            List<String> lines = day.length == 0 ? List.of() : List.of((text.endsWith("\n") ? text.substring(0, text.length() - 1) : text).split("\n", -1));
            need(verdicts.size() == lines.size() + 1 && verdicts.get(0).equals("line,verdict") && records == lines.size(),
                    "day, verdicts and receipt have not the same number of lines");
            Map<String, Integer> groups = new LinkedHashMap<>();
            List<byte[]> row = new ArrayList<>();
            for (int at = 0; at < lines.size(); at++) {
                String[] cells = verdicts.get(at + 1).split(",");
                need(cells.length == 2 && cells[0].equals("" + (at + 1)) && VERDICTS.contains(cells[1]), "row " + (at + 1) + " of the verdicts is none");
                row.add(sha(new byte[1], ascii("rec"), record(lines.get(at), groups), new byte[] {(byte) VERDICTS.indexOf(cells[1])}));
            }
            while (row.size() > 1) {
                List<byte[]> above = new ArrayList<>();
                for (int at = 0; at < row.size(); at += 16) {
                    List<byte[]> parts = new ArrayList<>(List.of(new byte[] {1}, ascii("node")));
                    parts.addAll(row.subList(at, Math.min(at + 16, row.size())));
                    above.add(sha(parts.toArray(byte[][]::new)));
                }
                row = above;
            }
            ByteBuffer header = ByteBuffer.allocate(112 + 16 * groups.size()).put(ascii("CKB1")).putShort((short) 1).putShort((short) 1);
            header.putShort((short) 40).putShort((short) groups.size()).put(ascii(lineage)).position(112);
            groups.keySet().forEach(group -> header.put(HEX.parseHex(group)));
            return sha(new byte[] {2}, ascii("root"), ByteBuffer.allocate(8).putLong(lines.size()).array(),
                    sha(new byte[] {3}, ascii("hdr"), header.array()), row.isEmpty() ? new byte[32] : row.get(0));
        }

        /** One line as a record of 40 bytes (wire/SPEC.md 3); its group gets the next number if it is new. */
        private static byte[] record(String line, Map<String, Integer> groups) {
            ByteBuffer record = ByteBuffer.allocate(40);
            Matcher part = F1.matcher(line);
            if (!part.matches() || line.chars().anyMatch(one -> one > 127) || !isDate(part.group(6)) || isRefused(part.group(1).substring(4))
                    || isRefused(part.group(10))) {
                return record.put(sha(line.getBytes(StandardCharsets.ISO_8859_1))).putShort(34, (short) -1).put(36, (byte) 1).array();
            }
            record.put(HEX.parseHex(part.group(1).substring(4) + part.group(2) + part.group(3) + part.group(4)));
            record.putInt(Integer.parseInt(part.group(5))).put(HEX.parseHex(part.group(6) + part.group(7) + part.group(8)));
            String group = part.group(9).toUpperCase() + "00000000000000" + part.group(10).toUpperCase();
            groups.putIfAbsent(group, groups.size());
            return record.putShort(groups.get(group).shortValue()).array();
        }

        private static boolean isDate(String date) {
            try {
                LocalDate.of(Integer.parseInt(date.substring(0, 4)), Integer.parseInt(date.substring(4, 6)), Integer.parseInt(date.substring(6)));
                return !date.startsWith("0000");
            } catch (DateTimeException none) {
                return false;
            }
        }

        private static boolean isRefused(String factor) {
            return factor.matches("0{16}|[Ff]{16}");
        }

        private static byte[] ascii(String text) {
            return text.getBytes(StandardCharsets.US_ASCII);
        }

        private static byte[] sha(byte[]... parts) {
            try {
                MessageDigest digest = MessageDigest.getInstance("SHA-256");
                Arrays.stream(parts).forEach(digest::update);
                return digest.digest();
            } catch (NoSuchAlgorithmException never) {
                throw new IllegalStateException(never);
            }
        }
    }
}
