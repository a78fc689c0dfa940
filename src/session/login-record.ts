/** What the audit trail is told of a login. All of it is a stranger's text until the login has succeeded, so it is cut and made printable. */
import type { Identity } from '../auth/identity.ts';
import { formatText } from '../auth/text.ts';
import type { LoginRecord } from '../observe/audit.ts';
import type { LoginParameters } from '../protocol/parameters.ts';

/** Notes what the startup packet says. */
export function describe(record: LoginRecord, login: LoginParameters): void {
  record.method = login.tokenLogin ? 'token' : 'native';
  record.user = shown(login.user);
  record.database = shown(login.database);
  record.applicationName = shown(login.others.find(({ name }) => name === 'application_name')?.value);
}

/** Notes who it turned out to be. */
export function identify(record: LoginRecord, identity: Identity): void {
  record.user = identity.user;
  record.principal = identity.principal;
  record.issuer = identity.issuer;
  record.apiKey = identity.apiKey;
  record.tokenExpires = new Date(identity.expiresAt).toISOString();
}

function shown(value: Buffer | undefined): string | undefined {
  return value && formatText(value.toString());
}
