/** The issuers as `pgsso check` looks at them: whether their keys can be fetched, as a login would fetch them. Nothing is kept. */
import { noEvents } from '../auth/key-events.ts';
import { noShelf } from '../auth/key-files.ts';
import { errorText } from '../errors.ts';
import { openProviders } from '../serve-providers.ts';
import type { SettingValues } from '../settings/snapshot.ts';
import { about, type Finding } from './finding.ts';

/** A finding for each issuer whose keys are fetched. */
export async function checkIssuers(values: SettingValues, environment: NodeJS.ProcessEnv): Promise<Finding[]> {
  if (!values['server.jwt_authentication.jwks_auto_fetch.enabled']) return [];
  const providers = openProviders({ environment, maxLogins: 1 }, noShelf, noEvents);
  const { signal } = new AbortController();
  const { issuers } = values['server.jwt_authentication.issuers.configuration'];
  const findings = issuers.map(async (issuer): Promise<Finding> => {
    const say = about(`issuer ${issuer}`);
    try {
      const { length } = await providers.keys.keysFor(issuer, values, signal);
      return length > 0 ? say('ok', `${length} keys`) : say('error', 'it has no key that can be used');
    } catch (error) {
      return say('error', errorText(error));
    }
  });
  try {
    return await Promise.all(findings);
  } finally {
    await providers.close();
  }
}
