/**
 * Looks at a configuration before it goes live (`pgsso check`): the same options as `serve`, and nothing is changed or kept open. A new
 * part of pgsso that can be misconfigured adds its findings here.
 */
import { errorText, UsageError } from '../errors.ts';
import type { ServeOptions } from '../serve.ts';
import { type BackendCheckOptions, checkBackends } from './backends.ts';
import { checkClientTls } from './certificates.ts';
import { about, type Finding } from './finding.ts';
import { checkSettings } from './settings.ts';

export type CheckOptions = ServeOptions & BackendCheckOptions;

/**
 * Looks at everything.
 *
 * @param now milliseconds since the epoch
 * @throws UsageError for options that cannot be right
 */
export async function check(options: CheckOptions, now: () => number = Date.now): Promise<Finding[]> {
  return [
    ...(await checkSettings(options)),
    ...(await orFinding('--tls-cert', checkClientTls(options, now()))),
    ...(await checkBackends(options, now)),
  ];
}

/** A file that cannot be used is a finding; options that contradict each other are wrong use. */
async function orFinding(subject: string, findings: Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await findings;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    return [about(subject)('error', errorText(error))];
  }
}
