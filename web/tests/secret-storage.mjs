// Secret storage as clients make and open it, by matrix-js-sdk: for tests, from the command line.
//
//   node secret-storage.mjs make             a new account's: its account data and recovery key, as JSON
//   node secret-storage.mjs open KEY <JSON   what is kept in that account data, opened with a recovery key

import { decodeRecoveryKey, encodeRecoveryKey } from "matrix-js-sdk/lib/crypto-api/recovery-key.js";
import { ServerSideSecretStorageImpl } from "matrix-js-sdk/lib/secret-storage.js";

const NAME = "m.cross_signing.master";

/** What the SDK asks of an account: its account data. */
function account(data) {
    const nobody = () => undefined;
    return {
        getAccountDataFromServer: async (type) => data[type] ?? null,
        setAccountData: async (type, content) => {
            data[type] = content;
            return {};
        },
        on: nobody,
        off: nobody,
        removeListener: nobody,
        emit: nobody,
    };
}

function storage(data, key) {
    return new ServerSideSecretStorageImpl(account(data), {
        getSecretStorageKey: async ({ keys }) => {
            const [keyId, description] = Object.entries(keys)[0];
            const checked = new ServerSideSecretStorageImpl(account(data), {});
            if (!(await checked.checkKey(key, description))) throw new Error("not the key of this account");
            return [keyId, key];
        },
    });
}

export async function make() {
    const key = crypto.getRandomValues(new Uint8Array(32));
    const data = {};
    const { keyId } = await storage(data, key).addKey("m.secret_storage.v1.aes-hmac-sha2", { key });
    data["m.secret_storage.default_key"] = { key: keyId };
    await storage(data, key).store(NAME, "the secret of this account", [keyId]);
    return { data, recoveryKey: encodeRecoveryKey(key) };
}

export async function open(data, recoveryKey) {
    return storage(data, decodeRecoveryKey(recoveryKey)).get(NAME);
}

const [, program, what, recoveryKey] = process.argv;
if (program?.endsWith("secret-storage.mjs")) {
    if (what === "make") console.log(JSON.stringify(await make()));
    else {
        let typed = "";
        for await (const part of process.stdin) typed += part;
        console.log(await open(JSON.parse(typed), recoveryKey));
    }
}
