// Pages of the service in a browser, each in a session of its own; what they complain of is kept.
import {until} from './harness.mjs';

// `complaints`: console errors, and requests to others than `allowed`. `expected`: statuses whose console lines are part of the test.
export function opener(browser, base, allowed, complaints) {
  return async ({path = '/', expected = [], ...options} = {}) => {
    const context = await browser.newContext({locale: 'en-GB', ...options});
    const page = await context.newPage();
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('console', (message) => {
      const known = expected.some((status) => message.text().includes(`status of ${status}`));
      if (message.type() === 'error' && !known) complaints.push(message.text());
    });
    page.on('request', (request) => {
      const url = request.url();
      if (![base, ...allowed, 'data:', 'blob:'].some((start) => url.startsWith(start))) complaints.push(`asked ${url}`);
    });
    await page.goto(base + path);
    if (path === '/') await until('the models', async () => (await page.textContent('#models-name')) !== '…');
    return page;
  };
}

export async function closing(page, body) {
  try {
    await body(page);
  } finally {
    await page.context().close();
  }
}

export async function choose(page, name) {
  await page.click('#models-button');
  await page.click(`.model:has(.model-name:text-is("${name}"))`);
  await until(`${name} to be chosen`, async () => (await page.textContent('#models-name')) === name);
}
