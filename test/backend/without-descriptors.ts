/**
 * A program for a test: opens files until it may open no more, logs in at a backend, and prints
 * what that ended with.
 */

import { closeSync, openSync } from 'node:fs';
import { connectAs } from '../../src/backend/connect.ts';
import { trust } from '../../src/backend/credentials.ts';
import { errorText, PgError } from '../../src/lib/errors.ts';
import { openTarget } from './fake-backend.ts';

const target = await openTarget('postgres://127.0.0.1:1/?sslmode=disable');
const [host] = target.url.hosts;
const parameters = [{ name: 'user', value: Buffer.from('alice') }];
const opened: number[] = [];

/** Resolves with the error of a login that finds no descriptor. */
async function logIn(): Promise<unknown> {
  try {
    for (;;) opened.push(openSync('/dev/null', 'r'));
  } catch {
    const { signal } = new AbortController();
    return await connectAs({ target, credentials: trust, parameters, signal }).catch(
      (error: unknown) => error,
    );
  }
}

const error = await logIn();
for (const descriptor of opened) closeSync(descriptor);
const { code, sqlstate, fault, reason } =
  error instanceof PgError
    ? error
    : { code: errorText(error), sqlstate: '', fault: '', reason: '' };
const failedLately = host && target.hosts.failedLately(host);
process.stdout.write(JSON.stringify({ code, sqlstate, fault, reason, failedLately }));
