// Photograph the page for the README, from a running service:  node tools/screenshot.mjs URL PHOTO OUTPUT.png
import {createRequire} from 'node:module';
import {fileURLToPath} from 'node:url';

const {chromium} = createRequire(fileURLToPath(new URL('../.cache/browser/package.json', import.meta.url)))('playwright-core');
const [base, photo, output] = process.argv.slice(2);
const browser = await chromium.launch({executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu']});
const page = await browser.newPage({viewport: {width: 1240, height: 800}, locale: 'en-GB', colorScheme: 'light'});
await page.goto(base);
for (let times = 0; times < 3; times++) { // a model that has just woken is not at its usual pace
  await page.setInputFiles('#file', photo);
  await page.waitForSelector('#ticket[data-state="result"]', {timeout: 60000});
  await page.waitForTimeout(1000);
}
await page.screenshot({path: output});
await browser.close();
