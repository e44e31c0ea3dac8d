@description('Who may.')
param principalId string
param container string

output granted string = '${container}:${principalId}'
