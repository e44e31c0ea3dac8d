// A role of our own, which can be assigned in this resource group and nowhere else.
@description('A GUID.')
param name string
@description('What it is called in the portal; no other role of the tenant may be called so.')
param title string
param summary string
param actions array
param dataActions array

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: name
  properties: {
    roleName: title
    description: summary
    type: 'CustomRole'
    permissions: [
      {
        actions: actions
        notActions: []
        dataActions: dataActions
        notDataActions: []
      }
    ]
    assignableScopes: [resourceGroup().id]
  }
}
