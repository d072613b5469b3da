// An account as a client has it, by matrix-js-sdk with all of its cryptography, at a real homeserver: for tests, from the
// command line, with JSON on standard input: {base_url, name, password}.
//
//   node account.mjs make   a first device: cross-signing, secret storage, a backup of room keys, and a message in an
//                           encrypted room; says {recovery_key, room_id, event_id, text}, and then there is no device more
//   node account.mjs read   a new device with {recovery_key, room_id, event_id}: says {before, text, verified}, which are
//                           what it reads of the message without the key and with it, and whether others trust it

import { ClientEvent, createClient, MatrixEvent } from "matrix-js-sdk/lib/index.js";
import { decodeRecoveryKey } from "matrix-js-sdk/lib/crypto-api/recovery-key.js";
import { RustBackupManager } from "matrix-js-sdk/lib/rust-crypto/backup.js";

const TEXT = "what only its members can read";
const ENCRYPTED = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };

// It would wait for some seconds, drawn by lot, so that not all clients come at once.
RustBackupManager.maxBackupLoopStartDelayMillis = 0;
const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, getChild: () => silent };

let input = "";
for await (const part of process.stdin) input += part;
const wanted = JSON.parse(input);

/** Signed in anew, and up to date. ``keyOf`` gives the key of the secret storage. */
async function device(keyOf) {
    const { base_url: baseUrl, name, password } = wanted;
    const identifier = { type: "m.id.user", user: name };
    const login = { type: "m.login.password", identifier, password };
    const found = await createClient({ baseUrl, logger: silent }).loginRequest(login);
    const client = createClient({
        baseUrl,
        userId: found.user_id,
        deviceId: found.device_id,
        accessToken: found.access_token,
        cryptoCallbacks: { getSecretStorageKey: async ({ keys }) => [Object.keys(keys)[0], keyOf()] },
        logger: silent,
    });
    await client.initRustCrypto({ useIndexedDB: false });
    const ready = new Promise((resolve) => client.on(ClientEvent.Sync, (state) => state === "PREPARED" && resolve()));
    await client.startClient({ initialSyncLimit: 1 });
    await ready;
    return client;
}

async function until(isSo) {
    while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 50));
}

async function ask(client, path) {
    const headers = { Authorization: `Bearer ${client.getAccessToken()}` };
    const answered = await fetch(`${wanted.base_url}/_matrix/client/v3/${path}`, { headers });
    return answered.json();
}

async function make() {
    let key = null;
    const client = await device(() => key.privateKey);
    const crypto = client.getCrypto();
    await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: (upload) => upload(null) });
    key = await crypto.createRecoveryKeyFromPassphrase();
    await crypto.bootstrapSecretStorage({ createSecretStorageKey: async () => key, setupNewKeyBackup: true });
    const { room_id } = await client.createRoom({ preset: "private_chat", initial_state: [ENCRYPTED] });
    await until(() => client.getRoom(room_id)?.hasEncryptionStateEvent());
    const { event_id } = await client.sendTextMessage(room_id, TEXT);
    await until(async () => (await ask(client, "room_keys/version")).count > 0);
    await client.logout(true);
    return { recovery_key: key.encodedPrivateKey, room_id, event_id, text: TEXT };
}

async function read() {
    const client = await device(() => decodeRecoveryKey(wanted.recovery_key));
    const crypto = client.getCrypto();
    const before = await textOf(client);
    await crypto.userHasCrossSigningKeys(client.getUserId(), true);
    await crypto.bootstrapCrossSigning({});
    await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
    await crypto.restoreKeyBackup();
    const text = await textOf(client);
    const status = await crypto.getDeviceVerificationStatus(client.getUserId(), client.getDeviceId());
    await client.logout(true);
    return { before, text, verified: status.crossSigningVerified };
}

/** What the device reads; null if it cannot. */
async function textOf(client) {
    const { room_id, event_id } = wanted;
    const event = await ask(client, `rooms/${encodeURIComponent(room_id)}/event/${encodeURIComponent(event_id)}`);
    if (event.type !== "m.room.encrypted") throw new Error(`it was sent in clear, as ${event.type}`);
    const found = new MatrixEvent(event);
    await client.decryptEventIfNeeded(found);
    return found.isDecryptionFailure() ? null : found.getContent().body;
}

const found = await (process.argv[2] === "make" ? make() : read());
process.stdout.write(`\n${JSON.stringify(found)}\n`, () => process.exit(0));
